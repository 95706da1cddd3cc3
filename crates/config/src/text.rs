//! Text for a terminal.

/// The width that text is wrapped to.
pub(crate) const WIDTH: usize = 80;

/// Wraps text between words, each line but the first indented. A line that is empty stays so. A word that is longer
/// than a line gets one of its own.
pub(crate) fn wrap(text: &str, indent: usize) -> String {
    let mut result = String::new();
    for (number, paragraph) in text.lines().enumerate() {
        if number > 0 {
            result.push('\n');
        }
        let mut column = if number > 0 && !paragraph.is_empty() { start_line(&mut result, indent) } else { indent };
        for (place, word) in paragraph.split_whitespace().enumerate() {
            if place > 0 && column + 1 + word.chars().count() > WIDTH {
                result.push('\n');
                column = start_line(&mut result, indent);
            } else if place > 0 {
                result.push(' ');
                column += 1;
            }
            result.push_str(word);
            column += word.chars().count();
        }
    }
    result
}

fn start_line(result: &mut String, indent: usize) -> usize {
    result.extend(std::iter::repeat_n(' ', indent));
    indent
}

/// Makes a sentence of a summary: a capital at the beginning, a full stop at the end.
pub(crate) fn sentence(summary: &str) -> String {
    let mut letters = summary.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_between_words() {
        let words = "word ".repeat(20);
        let line = "word ".repeat(16);
        assert_eq!(wrap(&words, 0), format!("{}\n{}", line.trim_end(), "word ".repeat(4).trim_end()));
        assert!(wrap(&words, 10).lines().skip(1).all(|line| line.starts_with(&" ".repeat(10))));
        assert!(wrap(&words, 10).lines().all(|line| line.len() <= WIDTH));
    }

    #[test]
    fn paragraphs_stay_apart() {
        assert_eq!(wrap("one\n\ntwo", 0), "one\n\ntwo");
        assert_eq!(wrap("one\ntwo", 2), "one\n  two");
    }

    #[test]
    fn a_summary_becomes_a_sentence() {
        assert_eq!(sentence("the stanza to work on"), "The stanza to work on.");
        assert_eq!(sentence(""), "");
    }
}
