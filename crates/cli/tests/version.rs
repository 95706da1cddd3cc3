//! `pgark version`

use pgark_testkit::{Program, run};

#[test]
fn the_version_is_shown() {
    let program = Program::new(env!("CARGO_BIN_EXE_pgark"));
    let version = concat!("pgark ", env!("CARGO_PKG_VERSION"), "\n");
    for argument in ["version", "--version"] {
        assert_eq!(run(program.command().arg(argument)).expect_success().stdout, version);
    }
    let number = run(program.command().args(["version", "--output=num"])).expect_success().stdout;
    assert!(number.parse::<u64>().is_ok(), "{number}");
}
