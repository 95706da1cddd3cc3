-- Everything that may be in a cluster, little of each.
set client_min_messages = warning;

create role "-dash";
create role U&"r\00f4le ""with"" 'quotes'";
create database "-dash base";
create database U&"b\00e4se ""with"" 'quotes'" owner "-dash";
create schema U&"sch\00e9ma of ""tables""";
create table U&"sch\00e9ma of ""tables""".U&"-t\00e4ble" ("a b" int primary key, U&"\00fc" text);
insert into U&"sch\00e9ma of ""tables""".U&"-t\00e4ble" select g, U&'\20ac' from generate_series(1, 100) g;

create table rows (id bigint generated always as identity primary key, line text, toasted text);
alter table rows alter toasted set storage external;
insert into rows (line, toasted) select md5(g::text), repeat(md5(g::text), 100) from generate_series(1, 1000) g;
create index on rows using hash (line);
create index on rows using brin (id);
create index on rows (upper(line)) where id > 10;

create table shapes (spot point, area box, words text[], span int4range, line text);
insert into shapes
select point(g, -g), box(point(g, g), point(g + 1, g + 1)), array[g::text, md5(g::text)], int4range(g, g + 5), md5(g::text)
  from generate_series(1, 2000) g;
create index on shapes using gin (words);
create index on shapes using gist (area);
create index on shapes using gist (span);
create index on shapes using spgist (spot);
create index on shapes using spgist (line);

create table parts (at date, n int) partition by range (at);
create table parts_of_2025 partition of parts for values from ('2025-01-01') to ('2026-01-01');
create table other_parts partition of parts default;
create index on parts (n);
insert into parts select '2025-07-01'::date + g, g from generate_series(1, 1000) g;

create materialized view summary as select count(*) from rows;
create sequence tickets;
select nextval('tickets') from generate_series(1, 5);
select lo_from_bytea(4711, decode(repeat('00ff5a', 100000), 'hex'));

create unlogged table scratch (id int primary key, toasted text);
insert into scratch select g, repeat(md5(g::text), 100) from generate_series(1, 500) g;

create table prepared (id int);
begin; insert into prepared values (1); prepare transaction 'to be committed before the restore';
begin; insert into prepared values (2); prepare transaction 'to be committed after the restore';

-- What changes all the time.
create table rounds as select 0 as n;
create table moving as select g as n, md5(g::text) as line from generate_series(1, 5000) g;
create table shrinking (n int);
