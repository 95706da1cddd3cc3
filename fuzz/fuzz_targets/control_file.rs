//! Control files as they are, and with version, block sizes and checksum that fit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgark_postgres::Version;
use pgark_postgres::control::ControlFile;
use pgark_postgres::process::PidFile;

fuzz_target!(|bytes: &[u8]| {
    let _may_fail = ControlFile::parse(bytes);
    let _may_fail = PidFile::parse(bytes);
    for version in Version::ALL {
        let mut image = bytes.to_vec();
        image.resize(8192.max(image.len()), 0);
        let mut put = |offset: usize, value: u32| image[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        put(8, version.control_version());
        put(12, version.catalog_version());
        put(216, 8192);
        put(224, 8192);
        let crc_offset = if version == Version::V18 { 292 } else { 288 };
        let crc = crc32c::crc32c(&image[..crc_offset]).to_le_bytes();
        image[crc_offset..crc_offset + 4].copy_from_slice(&crc);
        if let Ok(control_file) = ControlFile::parse(&image) {
            assert_eq!(control_file.version, version);
        }
    }
});
