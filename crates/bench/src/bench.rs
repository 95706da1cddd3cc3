//! A run: one group after the other.

use std::io;
use std::path::PathBuf;

use pgark_system::durable;
use pgark_testkit::{Cluster, Server};

use crate::archive_group::ArchiveGroup;
use crate::change_group::ChangeGroup;
use crate::cluster_group::ClusterGroup;
use crate::dataset::Dataset;
use crate::files;
use crate::group::{Data, Group, Peer, Storage};
use crate::machine::Machine;
use crate::object_store::Programs;
use crate::progress;
use crate::queue_group::QueueGroup;
use crate::recorder::Recorder;
use crate::result::{Conditions, GroupResult};
use crate::tool::Tool;

/// What a run has to work with.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) server: Server,
    /// pgark first, then what it is measured against.
    pub(crate) tools: Vec<Tool>,
    /// What S3 is made of, if it is to be measured.
    pub(crate) object_store: Option<Programs>,
    /// Where clusters are kept.
    pub(crate) datasets: PathBuf,
    /// Where everything else goes that a run makes.
    pub(crate) work: PathBuf,
    pub(crate) quick: bool,
    pub(crate) repetitions: usize,
}

impl Bench {
    /// Measures a group.
    pub(crate) fn measure(&self, group: Group) -> io::Result<GroupResult> {
        let mut dataset = self.dataset(group.data)?;
        progress::tell(&format!("measuring the group {}", group.name()));
        let conditions = self.conditions(&dataset, group)?;
        let cluster = dataset.start(&self.server)?;
        let recorder = Recorder::new(group, conditions);
        match group.data {
            Data::Mixed | Data::Files => ClusterGroup::new(self, &dataset, &cluster, group.storage, recorder).measure(),
            Data::Wal => ArchiveGroup::new(self, &dataset, &cluster, group.storage, recorder).measure(),
            Data::WalQueue | Data::WalMany => {
                QueueGroup::new(self, &dataset, &cluster, group.storage, recorder).measure()
            }
            Data::Changes => ChangeGroup::new(self, &mut dataset, &cluster, group.storage, recorder).measure(),
        }
    }

    /// The cluster of a group. One that is going to change is a copy.
    fn dataset(&self, data: Data) -> io::Result<Dataset> {
        let ensure = |data| Dataset::ensure(data, self.quick, &self.server, &self.datasets);
        match data {
            Data::Changes => Ok(ensure(Data::Mixed)?.copy(&self.work.join("cluster"))),
            data => ensure(data),
        }
    }

    /// Leaves the server nothing to write and nothing to archive, so that every backup finds the same.
    pub(crate) fn settle(&self, cluster: &Cluster) -> io::Result<()> {
        cluster.sql("checkpoint");
        cluster.wait_for_archived(&cluster.switch_wal());
        durable::sync_file_system(&self.work)
    }

    fn latency_milliseconds(&self, storage: Storage) -> u64 {
        let latency = self.object_store.as_ref().filter(|_| storage == Storage::S3).map(|programs| programs.latency);
        latency.and_then(|latency| u64::try_from(latency.as_millis()).ok()).unwrap_or_default()
    }

    fn conditions(&self, dataset: &Dataset, group: Group) -> io::Result<Conditions> {
        let version = |peer| self.tools.iter().find(|tool| tool.peer == peer).map(|tool| tool.version.clone());
        let data = match group.data {
            Data::Wal | Data::WalQueue | Data::WalMany => files::extent_of(&dataset.segments()?)?,
            Data::Mixed | Data::Files | Data::Changes => files::extent(&dataset.relations())?,
        };
        Ok(Conditions {
            measured_at: pgark_system::clock::now(),
            machine: Machine::at_hand()?,
            postgres: self.server.version().to_owned(),
            pgark: version(Peer::Pgark).unwrap_or_default(),
            pgbackrest: version(Peer::PgBackRest),
            garage: self.object_store.as_ref().filter(|_| group.storage == Storage::S3).map(Programs::garage_version),
            latency_milliseconds: self.latency_milliseconds(group.storage),
            data,
        })
    }
}

/// Has the server archive with `command` from now on.
pub(crate) fn archive_with(cluster: &Cluster, command: &str) {
    let quoted = command.replace('\'', "''");
    cluster.sql(&format!("alter system set archive_command = '{quoted}'; select pg_reload_conf()"));
    cluster.wait_for_sql("show archive_command", command);
}
