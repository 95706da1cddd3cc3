//! The operations of a storage, for messages and for the faults of tests.

use std::fmt;

/// One kind of call on a [`Storage`](crate::Storage) or an [`ObjectWriter`](crate::ObjectWriter).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Opening the storage itself.
    Open,
    /// [`Storage::head`](crate::Storage::head)
    Head,
    /// [`Storage::get`](crate::Storage::get)
    Get,
    /// [`Storage::get_range`](crate::Storage::get_range)
    GetRange,
    /// [`Storage::get_tail`](crate::Storage::get_tail)
    GetTail,
    /// [`Storage::put`](crate::Storage::put)
    Put,
    /// [`Storage::create`](crate::Storage::create)
    Create,
    /// [`ObjectWriter::write`](crate::ObjectWriter::write)
    Write,
    /// [`ObjectWriter::finish`](crate::ObjectWriter::finish)
    Finish,
    /// [`Storage::list`](crate::Storage::list)
    List,
    /// [`Storage::list_directory`](crate::Storage::list_directory)
    ListDirectory,
    /// [`Storage::persist`](crate::Storage::persist)
    Persist,
    /// [`Storage::delete`](crate::Storage::delete), and each name of [`Storage::delete_all`](crate::Storage::delete_all)
    Delete,
    /// [`Storage::sweep`](crate::Storage::sweep)
    Sweep,
    /// [`Storage::remove_unfinished`](crate::Storage::remove_unfinished)
    RemoveUnfinished,
}

impl fmt::Display for Operation {
    /// The verb of a message.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Open => "open",
            Self::Head => "look up",
            Self::Get | Self::GetRange | Self::GetTail => "read",
            Self::Put | Self::Create | Self::Write | Self::Finish => "write",
            Self::List | Self::ListDirectory => "list",
            Self::Persist => "sync",
            Self::Delete => "delete",
            Self::Sweep | Self::RemoveUnfinished => "clear",
        })
    }
}
