//! Choosing the backup whose pages a new one points at.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use pgark_postgres::Lsn;
use pgark_postgres::wal::name::Timeline;
use pgark_repository::garbage::StoredPack;
use pgark_repository::manifest::{Manifest, ManifestDocument, PackUse};
use pgark_repository::{Label, PackId, Repository, StanzaName};
use ulid::Ulid;

use super::adoption::is_left_over;
use super::changes::{History, lies_on_history};
use super::tables::TableCache;
use crate::error::Result;

/// Packs that one backup empties at most. More than a few each time would only make single backups slow.
const MOST_EMPTIED: usize = 16;

/// The backup that is compared with.
#[derive(Debug)]
pub(super) struct Reference<'repository> {
    pub(super) manifest: Manifest<'repository>,
    /// The packs that it needs.
    pub(super) packs: BTreeMap<PackId, PackUse>,
    /// Why the WAL since then does not tell what has changed, if it doesn't.
    pub(super) doubt: Option<String>,
}

/// What a backup is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its pages can be taken where the WAL since then names no change.
    ByWal,
    /// Its pages can be taken where those of the cluster are equal; the reason why the WAL does not tell.
    ByContent(String),
    /// It is of another cluster.
    Unfit,
}

/// Judges a backup as a reference for one of cluster `cluster` of the stanza, on a timeline with this history.
pub(super) fn judge(document: &ManifestDocument, cluster: u32, history: &History) -> Verdict {
    if document.cluster.id != cluster {
        return Verdict::Unfit;
    }
    let history = match history {
        History::Known(history) => history,
        History::Unknown { reason } => return Verdict::ByContent(reason.clone()),
    };
    let stop: Option<Lsn> = document.stop.lsn.as_deref().and_then(|lsn| lsn.parse().ok());
    if stop.is_some_and(|stop| lies_on_history(Timeline(document.stop.timeline), stop, history)) {
        Verdict::ByWal
    } else {
        let (label, timeline) = (&document.label, history.timeline());
        Verdict::ByContent(format!("backup set {label} does not lie on the history of timeline {timeline}"))
    }
}

/// The newest backup whose pages can be taken by what the WAL says; else the newest of the cluster. `labels` are those of
/// all backups.
///
/// # Errors
/// The storage's. A backup that is damaged is passed over.
pub(super) fn choose<'repository>(
    repository: &'repository Repository,
    stanza: &StanzaName,
    labels: &[Label],
    cluster: u32,
    history: &History,
) -> Result<Option<Reference<'repository>>> {
    let mut labels: Vec<&Label> = labels.iter().collect();
    labels.sort_by_key(|label| std::cmp::Reverse(label.time()));
    let mut by_content = None;
    for label in labels {
        let Some(manifest) = open(repository, stanza, label)? else { continue };
        match judge(manifest.document(), cluster, history) {
            Verdict::Unfit => {}
            Verdict::ByContent(doubt) => by_content = by_content.or(Some((manifest, Some(doubt)))),
            Verdict::ByWal => {
                by_content = Some((manifest, None));
                break;
            }
        }
    }
    let Some((manifest, doubt)) = by_content else { return Ok(None) };
    let packs = manifest.packs()?;
    if packs.values().any(|pack| pack.references == 0) {
        tracing::info!("backup set {} was taken by an older version, all pages are stored", manifest.document().label);
        return Ok(None);
    }
    Ok(Some(Reference { manifest, packs, doubt }))
}

/// The manifest of a backup, unless it can't be used.
fn open<'repository>(
    repository: &'repository Repository,
    stanza: &StanzaName,
    label: &Label,
) -> Result<Option<Manifest<'repository>>> {
    match Manifest::open(repository, stanza, label) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error @ pgark_repository::Error::Damaged { .. }) => {
            tracing::warn!("backup set {label} is passed over: {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The newest session whose packs the newest backup needs: of these packs, or if there are none of the newest of `labels`.
///
/// # Errors
/// The storage's.
pub(super) fn newest_session(
    repository: &Repository,
    stanza: &StanzaName,
    packs: &BTreeMap<PackId, PackUse>,
    labels: &[Label],
) -> Result<Option<Ulid>> {
    let newest = |packs: &BTreeMap<PackId, PackUse>| packs.keys().map(|pack| pack.session).max();
    match labels.iter().max_by_key(|label| label.time()) {
        Some(label) if packs.is_empty() => match open(repository, stanza, label)? {
            Some(manifest) => Ok(newest(&manifest.packs()?)),
            None => Ok(None),
        },
        _ => Ok(newest(packs)),
    }
}

/// What listing the packs of a stanza has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Survey {
    /// The packs of the reference that can't be used: they are missing, of another length, or about to be deleted.
    pub(super) unusable: BTreeSet<PackId>,
    /// The packs that interrupted backups have left.
    pub(super) left_over: Vec<PackId>,
}

/// Looks at what the stanza has of packs: `stored` are all of them, `condemned` are those that nobody may point at,
/// `newest` is the newest session whose packs are needed, and `own` the one that asks.
pub(super) fn survey(
    packs: &BTreeMap<PackId, PackUse>,
    stored: &BTreeMap<PackId, StoredPack>,
    condemned: &BTreeSet<PackId>,
    newest: Option<Ulid>,
    own: Ulid,
) -> Survey {
    let is_there = |id: &PackId, pack: &PackUse| stored.get(id).is_some_and(|stored| stored.length == pack.length);
    let unusable = packs.iter().filter(|(id, pack)| condemned.contains(id) || !is_there(id, pack)).map(|(id, _)| *id);
    let left_over = stored.keys().filter(|id| !packs.contains_key(id) && !condemned.contains(id));
    Survey {
        unusable: unusable.collect(),
        left_over: left_over.copied().filter(|id| is_left_over(*id, newest, own)).collect(),
    }
}

/// The packs of which so little is used that they are emptied, and the keys of the files that have pages in them.
#[derive(Debug, Default)]
pub(super) struct Emptied {
    pub(super) packs: BTreeSet<PackId>,
    pub(super) files: HashSet<u64>,
}

impl Emptied {
    /// Those among the packs of a reference.
    ///
    /// # Errors
    /// The storage's.
    pub(super) fn among(
        packs: &BTreeMap<PackId, PackUse>,
        unusable: &BTreeSet<PackId>,
        tables: &TableCache<'_>,
    ) -> Result<Self> {
        let is_thin = |pack: &PackUse| u128::from(pack.used) * 4 < u128::from(pack.length);
        let mut thin: Vec<_> = packs.iter().filter(|(id, pack)| is_thin(pack) && !unusable.contains(id)).collect();
        thin.sort_by_key(|(_, pack)| pack.used);
        let mut emptied = Self::default();
        for (id, pack) in thin.into_iter().take(MOST_EMPTIED) {
            if let Some(tables) = tables.get(*id, Some(pack.root))? {
                emptied.packs.insert(*id);
                emptied.files.extend(tables.files());
            }
        }
        Ok(emptied)
    }
}

#[cfg(test)]
mod tests {
    use pgark_postgres::wal::history::TimelineHistory;
    use pgark_repository::manifest::{BackupPoint, ClusterIdentity};

    use super::*;

    fn document(cluster: u32, timeline: u32, stop: &str) -> ManifestDocument {
        let point = |lsn: &str| BackupPoint {
            time: jiff::Timestamp::UNIX_EPOCH,
            lsn: Some(lsn.to_owned()),
            timeline,
            wal_segment: None,
        };
        let document = crate::testing::document();
        ManifestDocument {
            cluster: ClusterIdentity { id: cluster, ..document.cluster },
            start: point("0/100"),
            stop: point(stop),
            ..document
        }
    }

    #[test]
    fn the_wal_tells_of_a_backup_only_on_the_way_the_cluster_came() {
        let history = TimelineHistory::parse(Timeline(3), "1\t0/500\tx\n").unwrap();
        let known = History::Known(history);
        assert_eq!(judge(&document(2, 1, "0/500"), 2, &known), Verdict::ByWal);
        assert_eq!(judge(&document(2, 3, "0/900"), 2, &known), Verdict::ByWal);
        assert!(matches!(judge(&document(2, 1, "0/501"), 2, &known), Verdict::ByContent(_)), "it went on alone");
        assert!(matches!(judge(&document(2, 2, "0/900"), 2, &known), Verdict::ByContent(_)));
        assert_eq!(judge(&document(1, 1, "0/400"), 2, &known), Verdict::Unfit);
        let unknown = History::Unknown { reason: "it is lost".to_owned() };
        assert_eq!(judge(&document(2, 1, "0/400"), 2, &unknown), Verdict::ByContent("it is lost".to_owned()));
    }

    #[test]
    fn packs_are_used_that_are_there_whole_and_stay() {
        let id = |session: u8, number| PackId { session: Ulid::from_bytes([session; 16]), number };
        let needed = PackUse { length: 100, used: 100, references: 1, root: [0; 32] };
        let packs: BTreeMap<_, _> = (0..4).map(|number| (id(3, number), needed)).collect();
        let length = |length| StoredPack { length, modified: jiff::Timestamp::UNIX_EPOCH };
        let stored = [
            (id(3, 0), length(100)),
            (id(3, 1), length(99)),
            (id(3, 3), length(100)),
            (id(2, 0), length(7)),
            (id(4, 0), length(7)),
            (id(5, 0), length(7)),
            (id(6, 0), length(7)),
        ];
        let condemned = [id(3, 3), id(5, 0)].into();
        let newest = Some(Ulid::from_bytes([3; 16]));
        let survey = survey(&packs, &stored.into(), &condemned, newest, Ulid::from_bytes([6; 16]));
        assert_eq!(survey.unusable, [id(3, 1), id(3, 2), id(3, 3)].into());
        assert_eq!(survey.left_over, [id(4, 0)]);
    }
}
