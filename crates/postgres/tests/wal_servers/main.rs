//! The WAL of real servers, held against what the servers and their tools say of it.

mod archive;
mod borders;
mod files;
mod model;
mod oracles;
mod server_summaries;
mod times;
mod waldump;
mod workload;
