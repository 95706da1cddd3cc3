//! What the agent shows: metrics, the API, and the page in a real browser.

#![allow(clippy::unwrap_used, reason = "what goes wrong here ends the test")]
#![allow(clippy::float_cmp, reason = "whole numbers that are compared are exact")]

mod browser;
#[path = "../common/mod.rs"]
mod common;
mod secure;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fs_err as fs;
use pgark_testkit::{Server, run_with_input, wait_for_some, wait_until};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::common::{STANZA, Site};

/// An agent that runs, and where it listens. It is killed when it is dropped.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(site: &Site) -> Self {
        let log = site.scratch.path().join("agent.txt");
        let file = fs::File::create(&log).expect("the machine does as it is told");
        let mut command = site.command(&["--log-level-console=info", "agent"]);
        command.stdin(Stdio::null()).stdout(file.into_parts().0);
        let child = command.spawn().expect("the program starts");
        let address = wait_for_some("the agent to listen", || {
            let told = fs::read_to_string(&log).expect("the machine does as it is told");
            let line = told.lines().find_map(|line| line.split_once("listen on http://"))?.1;
            Some(line.trim_end_matches('/').to_owned())
        });
        Self { child, address }
    }

    /// Asks for a path; gives the head and the body of the answer.
    fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).expect("the agent listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address)
            .expect("the machine does as it is told");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the machine does as it is told");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        (head.to_owned(), body.to_owned())
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.get("/api/status").1).expect("the status is JSON")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A stanza with a full and an incremental backup, and an agent that has looked at it.
fn site_with_agent() -> (Site, Running, [String; 2]) {
    let builder = Site::builder(&Server::get(17)).global("schedule-incr=0 0 1 1 *\nschedule-verify=0 0 1 1 *");
    let site = builder.global("agent-listen=127.0.0.1:0").start();
    let full = site.backup(&[]);
    site.cluster.sql("create table t as select generate_series(1, 1000)");
    let taken = site.pgark(&["--type=incr", "--log-level-console=info", "backup"]).expect_success();
    let label = taken.stdout.lines().find_map(|line| line.split_once("new backup label = "));
    let incremental = label.expect("a backup tells its label").1.to_owned();
    let agent = Running::start(&site);
    wait_until("the agent to look", || agent.status()["stanzas"][0]["looked"].is_string());
    (site, agent, [full, incremental])
}

/// Prometheus' own tool, which `make setup` installs.
fn promtool(arguments: &[&str], input: &str) -> pgark_testkit::Finished {
    let cache = PathBuf::from("/var/cache/pgark-test/promtool/promtool");
    let own = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let own = own.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let own = own.map(|own| own.join("pgark-test/promtool/promtool")).filter(|own| own.exists());
    run_with_input(Command::new(own.unwrap_or(cache)).args(arguments), input.as_bytes())
}

#[test]
fn prometheus_reads_the_metrics() {
    let (_site, agent, _) = site_with_agent();
    let (head, body) = agent.get("/metrics");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    promtool(&["check", "metrics"], &body).expect_success();
    let value = |sample: &str| -> f64 {
        let line = body.lines().find_map(|line| line.strip_prefix(sample));
        line.unwrap_or_else(|| panic!("no {sample} in\n{body}")).trim().parse().unwrap()
    };
    let of = |name: &str, more: &str| value(&format!("{name}{{stanza=\"{STANZA}\"{more}}}"));
    let is = |name: &str, more: &str, number: u8| {
        let sample = format!("{name}{{stanza=\"{STANZA}\"{more}}} {number}");
        assert!(body.lines().any(|line| line == sample), "no {sample} in\n{body}");
    };
    is("pgark_stanza_health", "", 0);
    is("pgark_backups", ",repo=\"1\",type=\"incr\"", 1);
    let now = value("pgark_agent_update_timestamp_seconds");
    for kind in ["full", "incr"] {
        let ended = of("pgark_backup_last_end_timestamp_seconds", &format!(",repo=\"1\",type=\"{kind}\""));
        assert!((now - 600.0..now + 1.0).contains(&ended), "{kind} ended at {ended}, now it is {now}");
    }
    assert!(of("pgark_repository_size_bytes", ",repo=\"1\"") > 1e6);
    is("pgark_wal_gaps", ",repo=\"1\"", 0);
    // The server may not have come to the last one yet.
    assert!(of("pgark_wal_waiting_segments", "") < 3.0);
    is("pgark_schedule_kept", ",kind=\"incr\"", 1);
}

#[test]
fn the_files_for_prometheus_and_grafana_name_metrics_that_there_are() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/monitoring");
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    promtool(&["check", "rules", &path("alerts.yml")], "").expect_success();
    promtool(&["test", "rules", &path("alerts_test.yml")], "").expect_success();

    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/src/metrics.rs");
    let source = fs::read_to_string(source).unwrap();
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(directory.join("grafana.json")).unwrap()).unwrap();
    let mut expressions = vec![fs::read_to_string(directory.join("alerts.yml")).unwrap()];
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().unwrap();
        expressions.extend(targets.iter().map(|target| target["expr"].as_str().unwrap().to_owned()));
    }
    assert!(expressions.len() > 10);
    for expression in expressions {
        for word in expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_') {
            let is_there = !word.starts_with("pgark_") || source.contains(&format!("\"{word}\""));
            assert!(is_there, "there is no metric {word}");
        }
    }
}

#[test]
fn a_repository_that_is_down_is_said_to_be() {
    let (site, agent, _) = site_with_agent();
    let before = agent.status();
    let stanza = &before["stanzas"][0];
    assert_eq!(stanza["health"]["grade"], "ok", "{stanza}");
    assert_eq!(stanza["repositories"][0]["backups"].as_array().unwrap().len(), 2);
    drop(agent);
    fs::rename(site.repository(), site.scratch.path().join("away")).unwrap();
    let agent = Running::start(&site);
    wait_until("the agent to look", || agent.status()["stanzas"][0]["looked"].is_string());
    let after = agent.status();
    let health = &after["stanzas"][0]["health"];
    assert_eq!(health["grade"], "error", "{after}");
    let text = health["findings"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("repo1: "), "{text}");
    assert!(agent.get("/metrics").1.contains("pgark_stanza_health{stanza=\"demo\"} 3"));
}

#[test]
fn what_others_can_reach_needs_a_certificate_and_a_token() {
    let builder = Site::builder(&Server::get(17)).global("schedule-incr=0 0 1 1 *").global("agent-listen=0.0.0.0:0");
    let site = builder.create();
    let refused = site.pgark(&["agent"]).expect_code(31);
    let needs = "agent-listen=0.0.0.0:0 can be reached by other hosts, and needs agent-tls-cert-file, agent-tls-key-file and \
                 agent-token-file";
    assert!(refused.stdout.contains(needs), "{}", refused.report());
    site.reconfigure("agent-listen=0.0.0.0:0", "agent-listen=everywhere");
    let refused = site.pgark(&["agent"]).expect_code(32);
    assert!(refused.stdout.contains("'everywhere' is not an address with a port"), "{}", refused.report());
}

#[test]
fn the_page_shows_the_stanza_in_a_browser() {
    let (_site, agent, labels) = site_with_agent();
    let mut browser = Browser::start();
    browser.look(1200, 900, false);
    let url = format!("http://{}/", agent.address);
    browser.call("Page.navigate", json!({"url": url}));
    wait_until("the page to be shown", || browser.evaluate("document.body?.dataset.shown") == "yes");

    // How it is, in words.
    let text = |browser: &mut Browser, selector: &str| {
        let script = format!("document.querySelector('{selector}')?.innerText ?? ''");
        browser.evaluate(&script).as_str().unwrap().to_owned()
    };
    assert_eq!(text(&mut browser, ".stanza h2"), format!("Stanza {STANZA}"));
    assert_eq!(text(&mut browser, ".stanza .grade"), "All is well");
    let findings = text(&mut browser, ".findings");
    assert!(findings.contains("repo1: the last backup (incr) ended "), "{findings}");
    assert!(findings.contains("every moment can be reached from "), "{findings}");
    let running = browser.evaluate("document.body.innerText.includes('No job is at work.')");
    assert_eq!(running, true);
    assert!(text(&mut browser, "#messages").contains("look after the schedule: "));

    // Both backups and the window are on the timeline, and inside of it.
    let drawn = "[...document.querySelectorAll('.timeline .backup')].map((mark) => mark.dataset.label)";
    assert_eq!(browser.evaluate(drawn), json!(labels));
    assert_eq!(browser.evaluate("document.querySelectorAll('.timeline .window').length"), 1);
    let inside = "(() => { const whole = document.querySelector('.timeline svg').getBoundingClientRect();
        return [...document.querySelectorAll('.timeline .backup')].every((mark) => {
            const own = mark.getBoundingClientRect();
            return own.width > 0 && own.left >= whole.left && own.right <= whole.right; }); })()";
    assert_eq!(browser.evaluate(inside), true);

    // By keyboard alone: everything that can be used is reached, in the order in which it stands there.
    let mut reached = Vec::new();
    for _ in 0..9 {
        browser.press("Tab", 9);
        let name = "(() => { const at = document.activeElement; return at.id || at.className || at.innerText; })()";
        reached.push(browser.evaluate(name).as_str().unwrap().to_owned());
    }
    let expected = ["skip", "stanza-0-range", "timeline", "The 2 backup(s) as a table", "level", "Metrics"];
    assert_eq!(reached[..expected.len()], expected, "{reached:?}");
    browser.evaluate("document.querySelector('.timeline').focus()");
    browser.press("ArrowLeft", 37);
    browser.press("ArrowLeft", 37);
    let detail = text(&mut browser, "[aria-live=polite]");
    assert!(detail.contains("in repo1: full, ended "), "{detail}");
    // What somebody has chosen and where they are stays, when it is shown anew.
    browser.evaluate("refresh()");
    assert_eq!(browser.evaluate("document.activeElement.className"), "timeline");
    assert_eq!(text(&mut browser, "[aria-live=polite]"), detail);

    // On a phone nothing has to be scrolled sideways, in light and in dark.
    let mut colors = Vec::new();
    for is_dark in [false, true] {
        browser.look(360, 740, is_dark);
        browser.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))");
        let widths = "[document.documentElement.scrollWidth, innerWidth]";
        assert_eq!(browser.evaluate(widths), json!([360, 360]));
        colors.push(browser.evaluate("getComputedStyle(document.body).backgroundColor"));
        assert_eq!(browser.evaluate(CONTRAST), json!([]), "what can hardly be read, dark: {is_dark}");
    }
    assert_ne!(colors[0], colors[1]);

    // It has asked nobody else, and nothing went wrong.
    for request in browser.requests() {
        assert!(request.starts_with(&url) || request.starts_with("data:"), "{request}");
    }
    assert!(browser.requests().len() >= 3);
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());

    // An agent that is gone is told of, with what was known last left in place.
    drop(agent);
    browser.evaluate("refresh()");
    assert!(text(&mut browser, "#trouble").contains("The agent can't be asked: "));
    assert_eq!(text(&mut browser, ".stanza h2"), format!("Stanza {STANZA}"));
}

/// The texts whose contrast with what is behind them is less than 4.5, as WCAG counts.
const CONTRAST: &str = "(() => {
    const parts = (color) => color.match(/[0-9.]+/g).map(Number);
    const light = (color) => { const [r, g, b] = parts(color).map((part) => part / 255).map((part) =>
        part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const behind = (element) => { for (; element; element = element.parentElement) {
        const color = getComputedStyle(element).backgroundColor;
        if (parts(color)[3] !== 0) return color; } return 'rgb(255, 255, 255)'; };
    return [...document.querySelectorAll('h1, h2, h3, p, li, th, td, span, a, label, summary, time')]
        .filter((element) => element.innerText && element.className !== 'skip').filter((element) => {
            const [one, other] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
            return (one + 0.05) / (other + 0.05) < 4.5; }).map((element) => element.innerText.slice(0, 40)); })()";
