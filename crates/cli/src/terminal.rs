//! What the terminal that somebody sits at can show.

use std::io::IsTerminal;

/// Whether the terminal can do no more than print one line below the other.
pub(crate) fn is_dumb() -> bool {
    matches!(variable("TERM").as_str(), "" | "dumb")
}

/// Whether what is written to a stream has colours: only on a terminal, and not where the user wants none.
pub(crate) fn has_colours(stream: &impl IsTerminal) -> bool {
    wants_colours(stream.is_terminal(), &variable("NO_COLOR"), &variable("TERM"))
}

fn wants_colours(is_terminal: bool, no_colour: &str, kind: &str) -> bool {
    is_terminal && no_colour.is_empty() && kind != "dumb"
}

fn variable(name: &str) -> String {
    std::env::var_os(name).unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_those_who_see_and_want_them() {
        assert!(wants_colours(true, "", "xterm-256color"));
        assert!(wants_colours(true, "", ""));
        assert!(!wants_colours(false, "", "xterm"));
        assert!(!wants_colours(true, "1", "xterm"));
        assert!(!wants_colours(true, "", "dumb"));
    }
}
