//! Results as a picture: a bar for each program at each task.

use std::fmt::Write;

use super::markdown::seconds;
use crate::group::Peer;
use crate::result::{GroupResult, Series};

/// Sizes in the picture's units.
const WIDTH: f64 = 720.0;
const NAME_WIDTH: f64 = 110.0;
const LABEL_WIDTH: f64 = 160.0;
const BAR: f64 = 18.0;
const GAP: f64 = 4.0;
const TITLE: f64 = 28.0;

/// The median time of every program at every task as SVG; a thin line shows the least and the greatest. The bars of a
/// task share a scale: each task's longest bar is as wide as the picture allows.
pub(crate) fn svg(result: &GroupResult) -> String {
    let mut body = String::new();
    let mut top = GAP;
    for series in result.series_by_task().chunk_by(|one, next| one.task == next.task) {
        let greatest = series.iter().map(|series| series.seconds().greatest).fold(f64::MIN_POSITIVE, f64::max);
        text(&mut body, 0.0, top + TITLE - 10.0, "bold", series[0].task.title());
        top += TITLE;
        for one in series {
            bar(&mut body, one, top, (WIDTH - NAME_WIDTH - LABEL_WIDTH) / greatest);
            top += BAR + GAP;
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

fn bar(body: &mut String, series: &Series, top: f64, scale: f64) {
    let times = series.seconds();
    let colour = match series.peer {
        Peer::Pgark => "#2a7f62",
        Peer::PgBackRest => "#c98b2b",
        Peer::PgBaseBackup => "#8a8f98",
    };
    text(body, 8.0, top + BAR - 5.0, "normal", series.peer.name());
    rectangle(body, NAME_WIDTH, top, times.median * scale, BAR, colour);
    let middle = top + BAR / 2.0 - 0.5;
    rectangle(body, NAME_WIDTH + times.least * scale, middle, (times.greatest - times.least) * scale, 1.0, "#222222");
    let label = format!("{} s, CPU {} s", seconds(times.median), seconds(series.mean_cpu_seconds()));
    text(body, NAME_WIDTH + times.greatest * scale + 6.0, top + BAR - 5.0, "normal", &label);
}

fn rectangle(body: &mut String, left: f64, top: f64, width: f64, height: f64, colour: &str) {
    writeln!(
        body,
        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
    )
    .expect("a string can be written");
}

fn text(body: &mut String, left: f64, bottom: f64, weight: &str, content: &str) {
    writeln!(
        body,
        "<text x=\"{left:.1}\" y=\"{bottom:.1}\" font-weight=\"{weight}\" fill=\"#222222\">{content}</text>"
    )
    .expect("a string can be written");
}
