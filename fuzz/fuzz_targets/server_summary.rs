//! WAL summaries of a server, with a checksum that fits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgark_postgres::wal::server_summary::ServerSummary;

fuzz_target!(|bytes: &[u8]| {
    let _may_fail = ServerSummary::parse(bytes);
    let crc = crc32c::crc32c(bytes).to_le_bytes();
    if let Ok(summary) = ServerSummary::parse(&[bytes, &crc].concat()) {
        let _blocks = summary.to_block_summary();
    }
});
