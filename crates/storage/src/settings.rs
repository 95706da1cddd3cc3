//! Which storage holds a repository.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;
use crate::{LocalStorage, S3Settings, S3Storage, Storage};

/// Where a repository is and how to reach it.
#[derive(Clone, Debug)]
pub enum StorageSettings {
    /// In a directory of a local or mounted file system.
    Local(PathBuf),
    /// In a bucket.
    S3(Box<S3Settings>),
}

impl StorageSettings {
    /// Opens the storage, which must exist. That it does a driver may find out only when it is used.
    ///
    /// # Errors
    /// What the driver says.
    pub fn open(&self) -> Result<Arc<dyn Storage>> {
        Ok(match self {
            Self::Local(path) => Arc::new(LocalStorage::open(path)?),
            Self::S3(settings) => Arc::new(S3Storage::open(settings)?),
        })
    }

    /// Where it is, in words by which it can be told from others. Nothing is opened for it.
    pub fn describe(&self) -> String {
        match self {
            Self::Local(path) => path.display().to_string(),
            Self::S3(settings) => settings.describe(),
        }
    }

    /// Opens the storage, and creates the directory of one on a file system. A bucket must exist.
    ///
    /// # Errors
    /// What the driver says.
    pub fn create(&self) -> Result<Arc<dyn Storage>> {
        Ok(match self {
            Self::Local(path) => Arc::new(LocalStorage::create_root(path)?),
            Self::S3(_) => return self.open(),
        })
    }
}
