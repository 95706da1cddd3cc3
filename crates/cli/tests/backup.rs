//! `pgark backup`

mod common;

use pgark_testkit::Server;

use crate::common::Site;

#[test]
fn a_running_cluster_is_backed_up() {
    for major in [15, 18] {
        let site = Site::start(&Server::get(major));
        site.cluster.pgbench_init(1);
        let finished = site.pgark(&["--log-level-console=info", "backup"]).expect_success();
        println!("{}", finished.report());
        let finished = site.pgark(&["--log-level-console=detail", "check"]).expect_success();
        println!("{}", finished.report());
    }
}
