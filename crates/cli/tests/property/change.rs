//! What is done to a cluster by SQL, each as a value.

use std::fmt::Write;

/// The kinds of indexes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum IndexKind {
    Btree,
    Hash,
    Gin,
    Gist,
    Spgist,
    Brin,
}

impl IndexKind {
    pub(crate) const ALL: [Self; 6] = [Self::Btree, Self::Hash, Self::Gin, Self::Gist, Self::Spgist, Self::Brin];

    fn method(self) -> &'static str {
        match self {
            Self::Btree => "btree",
            Self::Hash => "hash",
            Self::Gin => "gin",
            Self::Gist => "gist",
            Self::Spgist => "spgist",
            Self::Brin => "brin",
        }
    }

    fn column(self) -> &'static str {
        match self {
            Self::Btree | Self::Hash => "line",
            Self::Gin => "words",
            Self::Gist => "span",
            Self::Spgist => "spot",
            Self::Brin => "id",
        }
    }
}

/// How a database is copied from its template, from 15 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// As the server does it unless told; the only way before 15.
    Default,
    /// Page by page, through the WAL.
    WalLog,
    /// File by file, of which the WAL has one record.
    FileCopy,
}

/// One change. Tables, databases, large objects and prepared transactions are numbered; `away` is in a tablespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Create {
        table: u32,
        rows: u32,
        unlogged: bool,
        away: bool,
    },
    Drop {
        table: u32,
    },
    Truncate {
        table: u32,
    },
    /// Truncates and fills in one transaction.
    Refill {
        table: u32,
        rows: u32,
    },
    Insert {
        table: u32,
        rows: u32,
    },
    /// Inserts, and rolls it back: the table has grown all the same.
    InsertInVain {
        table: u32,
        rows: u32,
    },
    /// Changes every n-th row in a way that concerns indexes.
    Update {
        table: u32,
        every: u32,
    },
    /// Changes every n-th row in a column that is in no index.
    UpdateHot {
        table: u32,
        every: u32,
    },
    Delete {
        table: u32,
        every: u32,
    },
    /// Deletes all but the first rows and gives the space back: the file gets shorter.
    CutOff {
        table: u32,
        keep: u32,
    },
    /// Cuts off and fills up again, so that the file is as long as before and yet another.
    CutOffAndRefill {
        table: u32,
        keep: u32,
        rows: u32,
    },
    /// Locks rows in several transactions at once (multixacts).
    LockRows {
        table: u32,
    },
    /// Reads all rows, which leaves hint bits on their pages.
    Look {
        table: u32,
    },
    Vacuum {
        table: u32,
    },
    VacuumFreeze {
        table: u32,
    },
    VacuumFull {
        table: u32,
    },
    /// A catalog gets another file, which the relation map names.
    VacuumFullCatalog,
    Cluster {
        table: u32,
    },
    Reindex {
        table: u32,
    },
    CreateIndex {
        table: u32,
        kind: IndexKind,
        away: bool,
    },
    DropIndex {
        table: u32,
        kind: IndexKind,
    },
    Move {
        table: u32,
        away: bool,
    },
    SetLogged {
        table: u32,
        logged: bool,
    },
    /// Changes the type of a column, so that the whole table is written anew.
    Rewrite {
        table: u32,
    },
    CreateDatabase {
        database: u32,
        template: Option<u32>,
        strategy: Strategy,
        away: bool,
    },
    FillDatabase {
        database: u32,
        rows: u32,
    },
    MoveDatabase {
        database: u32,
        away: bool,
    },
    DropDatabase {
        database: u32,
    },
    PutLargeObject {
        object: u32,
        bytes: u32,
    },
    UnlinkLargeObject {
        object: u32,
    },
    AdvanceSequence {
        by: u32,
    },
    Prepare {
        transaction: u32,
        creates_table: bool,
    },
    CommitPrepared {
        transaction: u32,
    },
    RollbackPrepared {
        transaction: u32,
    },
    Checkpoint,
    SwitchWal,
}

/// What is there before the first change.
pub(crate) const FOUNDATION: &str = "
    create table promised (id int, line text);
    create sequence tickets;
    create table busy (id int primary key, counter int not null, line text) with (fillfactor = 80);
    insert into busy select g, 0, md5(g::text) from generate_series(1, 2000) g;
    create index busy_line on busy (line);
    create table journal (id bigint generated always as identity primary key, line text);
    create table fleeting (n int);";

/// What runs beside some backups, over and over. Each statement is a transaction. Between the rounds it rests, or all
/// the time of a run would go into archiving what it writes.
pub(crate) const UNREST: &str = "
\\sleep 100 ms
\\set id random(1, 2000)
\\set rows random(1, 200)
update busy set counter = counter + 1 where id = :id;
update busy set line = md5(:id::text || counter) where id between :id and :id + 20;
insert into journal (line) select md5(g::text) from generate_series(1, :rows) g;
delete from journal where id % 7 = :id % 7 and id < (select max(id) - 3000 from journal);
insert into fleeting select generate_series(1, 5 * :rows);
delete from fleeting where n > 20;
vacuum fleeting;
truncate fleeting;
";

impl Change {
    /// In which database it is done, and how. The number `salt` makes rows differ from those of other changes.
    pub(crate) fn sql(self, salt: usize) -> (String, String) {
        let database = match self {
            Self::FillDatabase { database, .. } => format!("database_{database}"),
            _ => "postgres".to_owned(),
        };
        (database, self.statements(salt))
    }

    fn statements(self, salt: usize) -> String {
        match self {
            Self::Create { table, rows, unlogged, away } => {
                let unlogged = if unlogged { "unlogged" } else { "" };
                format!("{}; {}", create(&format!("table_{table}"), unlogged, away), insert(table, rows, salt))
            }
            Self::Drop { table } => format!("drop table table_{table}"),
            Self::Truncate { table } => format!("truncate table_{table}"),
            Self::Refill { table, rows } => format!("begin; truncate table_{table}; {}; commit", insert(table, rows, salt)),
            Self::Insert { table, rows } => insert(table, rows, salt),
            Self::InsertInVain { table, rows } => format!("begin; {}; rollback", insert(table, rows, salt)),
            Self::Update { table, every } => {
                format!("update table_{table} set line = md5(line || {salt}), words = words || '{salt}'::text where id % {every} = 0")
            }
            Self::UpdateHot { table, every } => {
                format!("update table_{table} set counter = counter + 1 where id % {every} = 0")
            }
            Self::Delete { table, every } => format!("delete from table_{table} where id % {every} = 0"),
            Self::CutOff { table, keep } => cut_off(table, keep),
            Self::CutOffAndRefill { table, keep, rows } => {
                format!("{}; {}", cut_off(table, keep), insert(table, rows, salt))
            }
            Self::LockRows { table } => format!(
                "begin; select count(*) from (select from table_{table} where id % 5 = 0 for key share) rows; savepoint one;
                 update table_{table} set counter = counter - 1 where id % 10 = 0; commit"
            ),
            Self::Look { table } => format!("select count(*) from table_{table} where counter >= 0"),
            Self::Vacuum { table } => format!("vacuum table_{table}"),
            Self::VacuumFreeze { table } => format!("vacuum freeze table_{table}"),
            Self::VacuumFull { table } => format!("vacuum full table_{table}"),
            Self::VacuumFullCatalog => "vacuum full pg_class; vacuum full pg_attribute; reindex table pg_proc".to_owned(),
            Self::Cluster { table } => format!("cluster table_{table} using table_{table}_pkey"),
            Self::Reindex { table } => format!("reindex table table_{table}"),
            Self::CreateIndex { table, kind, away } => format!(
                "create index {} on table_{table} using {} ({}) {}",
                index(table, kind),
                kind.method(),
                kind.column(),
                if away { "tablespace away" } else { "" }
            ),
            Self::DropIndex { table, kind } => format!("drop index {}", index(table, kind)),
            Self::Move { table, away } => format!("alter table table_{table} set tablespace {}", tablespace(away)),
            Self::SetLogged { table, logged } => {
                format!("alter table table_{table} set {}", if logged { "logged" } else { "unlogged" })
            }
            Self::Rewrite { table } => format!("alter table table_{table} alter counter type bigint using counter + 1"),
            Self::FillDatabase { rows, .. } => format!(
                "create table if not exists rows (id bigint generated always as identity primary key, line text);
                 insert into rows (line) select md5('{salt}' || g) from generate_series(1, {rows}) g;
                 update rows set line = md5(line) where id % 3 = 0"
            ),
            Self::CreateDatabase { .. } | Self::MoveDatabase { .. } | Self::DropDatabase { .. } => self.of_databases(),
            _ => self.of_no_table(salt),
        }
    }

    fn of_databases(self) -> String {
        match self {
            Self::CreateDatabase { database, template, strategy, away } => {
                let template = template.map_or("template0".to_owned(), |number| format!("database_{number}"));
                let mut statement = format!("create database database_{database} template {template}");
                match strategy {
                    Strategy::Default => {}
                    Strategy::WalLog => statement.push_str(" strategy wal_log"),
                    Strategy::FileCopy => statement.push_str(" strategy file_copy"),
                }
                write!(statement, " tablespace {}", tablespace(away)).expect("a string can be written");
                statement
            }
            Self::MoveDatabase { database, away } => {
                format!("alter database database_{database} set tablespace {}", tablespace(away))
            }
            Self::DropDatabase { database } => format!("drop database database_{database}"),
            _ => unreachable!("{self:?} is of no database"),
        }
    }

    fn of_no_table(self, salt: usize) -> String {
        match self {
            // Unlinked first, so that it is no error where it is there already.
            Self::PutLargeObject { object, bytes } => format!(
                "select lo_unlink(oid) from pg_largeobject_metadata where oid = {oid};
                 select lo_from_bytea({oid}, decode(repeat(md5('{salt}'), {repeated}), 'hex'))",
                oid = large_object(object),
                repeated = bytes / 16 + 1
            ),
            Self::UnlinkLargeObject { object } => format!("select lo_unlink({})", large_object(object)),
            Self::AdvanceSequence { by } => format!("select max(nextval('tickets')) from generate_series(1, {by})"),
            Self::Prepare { transaction, creates_table } => {
                let table = if creates_table {
                    format!("create table promised_{transaction} as select generate_series(1, 500) n;")
                } else {
                    String::new()
                };
                format!(
                    "begin; {table} insert into promised select g, md5('{salt}' || g) from generate_series(1, 300) g;
                     prepare transaction 'promise {transaction}'"
                )
            }
            Self::CommitPrepared { transaction } => format!("commit prepared 'promise {transaction}'"),
            Self::RollbackPrepared { transaction } => format!("rollback prepared 'promise {transaction}'"),
            Self::Checkpoint => "checkpoint".to_owned(),
            Self::SwitchWal => "select pg_switch_wal()".to_owned(),
            _ => unreachable!("{self:?} is of a table"),
        }
    }
}

fn create(table: &str, unlogged: &str, away: bool) -> String {
    format!(
        "create {unlogged} table {table}
         (id bigint generated always as identity primary key, counter int not null default 0,
          line text, toasted text, words text[], span int4range, spot point)
         with (fillfactor = 70) tablespace {};
         alter table {table} alter toasted set storage external",
        tablespace(away)
    )
}

fn insert(table: u32, rows: u32, salt: usize) -> String {
    format!(
        "insert into table_{table} (line, toasted, words, span, spot)
         select md5('{salt}' || g), case when g % 40 = 0 then repeat(md5('{salt}' || g), 100) end,
                array[g::text, md5(g::text)], int4range(g, g + 5), point(g, -g)
           from generate_series(1, {rows}) g"
    )
}

fn cut_off(table: u32, keep: u32) -> String {
    format!(
        "delete from table_{table} where ctid not in (select ctid from table_{table} order by ctid limit {keep});
         vacuum table_{table}"
    )
}

fn index(table: u32, kind: IndexKind) -> String {
    format!("table_{table}_{}", kind.method())
}

fn tablespace(away: bool) -> &'static str {
    if away { "away" } else { "pg_default" }
}

fn large_object(object: u32) -> u32 {
    4000 + object
}
