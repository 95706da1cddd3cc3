//! Results for people: on the terminal, and in docs/benchmarks.md with its plots.

mod markdown;
mod plot;

use std::io::{self, Write};
use std::path::Path;

use fs_err as fs;

use crate::result::{self, GroupResult};

/// What stands around the part of the page that is made here.
const BEGIN: &str = "<!-- results: made by pgark-bench from benchmarks/results.json -->\n";
const END: &str = "<!-- end of results -->\n";

/// Prints what is kept in the directory `results`, and puts it into the documentation if `write_docs` says so.
pub(crate) fn report(results: &Path, write_docs: bool) -> io::Result<()> {
    let results = result::read_all(results)?;
    if write_docs {
        write_documentation(&crate::workspace().join("docs"), &results)?;
    }
    io::stdout().write_all(markdown::page(&results, |_| String::new()).as_bytes())
}

fn write_documentation(docs: &Path, results: &[GroupResult]) -> io::Result<()> {
    let page = docs.join("benchmarks.md");
    let text = with_results(&fs::read_to_string(&page)?, results)?;
    fs::create_dir_all(docs.join("benchmarks"))?;
    for result in results {
        fs::write(docs.join(plot_path(result)), plot::svg(result))?;
    }
    fs::write(docs.join("benchmarks/results.json"), serde_json::to_string_pretty(results)? + "\n")?;
    fs::write(page, text)
}

/// The page with `results` in place of those it has.
fn with_results(page: &str, results: &[GroupResult]) -> io::Result<String> {
    let parts = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| io::Error::other("docs/benchmarks.md has no place for results"))?;
    let plot = |result: &GroupResult| format!("![{}]({})\n\n", result.group.name(), plot_path(result));
    Ok(format!("{before}{BEGIN}\n{}{END}{after}", markdown::page(results, plot)))
}

/// Where the plot of a group lies, seen from the page.
fn plot_path(result: &GroupResult) -> String {
    format!("benchmarks/{}.svg", result.group.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_and_its_plots_show_the_results_they_stand_beside() {
        let docs = crate::workspace().join("docs");
        let results: Vec<GroupResult> =
            serde_json::from_slice(&fs::read(docs.join("benchmarks/results.json")).unwrap()).unwrap();
        let page = fs::read_to_string(docs.join("benchmarks.md")).unwrap();
        let hint = "run `pgark-bench report --write-docs`";
        assert!(with_results(&page, &results).unwrap() == page, "docs/benchmarks.md is not up to date: {hint}");
        for result in &results {
            let plot = fs::read_to_string(docs.join(plot_path(result))).unwrap();
            assert!(plot::svg(result) == plot, "{} is not up to date: {hint}", plot_path(result));
        }
    }
}
