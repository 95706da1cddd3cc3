//! Names of users and groups, which a manifest has once each.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;

/// The names that belong to numbers, in the order in which they were met.
#[derive(Debug)]
pub(super) struct Names {
    look_up: fn(u32) -> Option<Arc<OsStr>>,
    positions: HashMap<u32, u32>,
    found: Vec<String>,
}

impl Names {
    pub(super) fn users() -> Self {
        Self::new(|user| uzers::get_user_by_uid(user).map(|user| user.name().into()))
    }

    pub(super) fn groups() -> Self {
        Self::new(|group| uzers::get_group_by_gid(group).map(|group| group.name().into()))
    }

    fn new(look_up: fn(u32) -> Option<Arc<OsStr>>) -> Self {
        Self { look_up, positions: HashMap::new(), found: Vec::new() }
    }

    /// 1 + the position of a number's name, or 0 if it has none.
    pub(super) fn position(&mut self, number: u32) -> u32 {
        if let Some(position) = self.positions.get(&number) {
            return *position;
        }
        let position = match (self.look_up)(number) {
            None => 0,
            Some(name) => {
                self.found.push(name.to_string_lossy().into_owned());
                u32::try_from(self.found.len()).unwrap_or(0)
            }
        };
        self.positions.insert(number, position);
        position
    }

    pub(super) fn into_names(self) -> Vec<String> {
        self.found
    }
}
