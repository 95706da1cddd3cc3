//! Tests of the repository as a whole: plain and encrypted, in memory and on a disk. What is pure is tested beside its
//! code.

#![expect(clippy::unwrap_used, reason = "what is not as expected ends the test")]

mod allocation;
mod arranged;
mod backups;
mod book;
mod check;
mod container;
mod crash;
mod draft;
mod dump;
mod forged;
mod garbage;
mod golden;
mod lifecycle;
mod manifest;
mod notes;
mod pack;
mod properties;
mod removal;
mod restore;
mod room;
mod sample;
mod sidecar;
mod simulation;
mod wal;
