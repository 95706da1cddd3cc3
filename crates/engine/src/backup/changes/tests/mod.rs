//! What real clusters go through between two backups.

mod archive;
mod blocks;
mod lives;
mod site;

use super::*;
