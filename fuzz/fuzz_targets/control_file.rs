//! Control files, as they are and with a checksum that fits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgark_postgres::control::ControlFile;
use pgark_postgres::process::PostmasterFile;

/// Where the checksum lies, for each of the layouts.
const CHECKSUMS: [usize; 3] = [288, 292, 296];

fuzz_target!(|bytes: &[u8]| {
    let _may_fail = ControlFile::parse(bytes);
    let _may_fail = PostmasterFile::parse(bytes);
    for end in CHECKSUMS {
        let mut changed = bytes.to_vec();
        changed.resize(8192.max(changed.len()), 0);
        let crc = crc32c::crc32c(&changed[..end]).to_le_bytes();
        changed[end..end + 4].copy_from_slice(&crc);
        let _may_fail = ControlFile::parse(&changed);
    }
});
