//! The text format of Prometheus.

use std::fmt::Write as _;

/// What a metric is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// The labels of a sample, as they are written.
#[derive(Debug)]
pub(super) struct Labels(String);

impl Labels {
    pub(super) fn of(pairs: &[(&str, &str)]) -> Self {
        let written: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        Self(if written.is_empty() { String::new() } else { format!("{{{}}}", written.join(",")) })
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A text that grows by a family of samples at a time.
#[derive(Debug, Default)]
pub(super) struct Exposition(String);

impl Exposition {
    /// Adds a metric with those of its samples that have a value; nothing, where none has.
    pub(super) fn family(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, Option<f64>)>,
    ) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let mut head = Some(format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (Labels(labels), value) in samples {
            let Some(value) = value else { continue };
            self.0.push_str(&head.take().unwrap_or_default());
            // Writing to a string does not fail.
            let _written = writeln!(self.0, "{name}{labels} {value}");
        }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_are_escaped_and_what_is_not_known_is_left_out() {
        let mut text = Exposition::default();
        let labels = |value| Labels::of(&[("a", value), ("b", "c")]);
        text.family(Kind::Gauge, "x", "All.", [(labels("\"\\\n"), Some(1.5)), (labels("d"), None)]);
        text.family(Kind::Counter, "y_total", "None.", [(Labels::of(&[]), None)]);
        text.family(Kind::Counter, "z_total", "One.", [(Labels::of(&[]), Some(1e12))]);
        let expected = "# HELP x All.\n# TYPE x gauge\nx{a=\"\\\"\\\\\\n\",b=\"c\"} 1.5\n\
                        # HELP z_total One.\n# TYPE z_total counter\nz_total 1000000000000\n";
        assert_eq!(text.finish(), expected);
    }
}
