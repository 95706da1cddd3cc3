//! The page: one file, with all that it needs in it. It asks the API, and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest::{SHA256, digest};

/// The page.
pub(crate) const HTML: &str = include_str!("page/page.html");

/// What the page may do: run its own script, use its own style, ask where it came from. Nothing else, and nobody may show
/// it in a frame.
pub(crate) fn content_security_policy() -> String {
    let hash = |element| BASE64.encode(digest(&SHA256, inside(HTML, element).as_bytes()));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style"),
    )
}

/// What is in the only element of this name.
fn inside<'html>(html: &'html str, element: &str) -> &'html str {
    let after = html.split_once(&format!("<{element}>")).map_or("", |(_, after)| after);
    after.split_once(&format!("</{element}>")).map_or("", |(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_the_script_and_the_style() {
        assert_eq!(inside("<style>a</style><script>b</script>", "script"), "b");
        for element in ["script", "style"] {
            assert_eq!(HTML.matches(&format!("<{element}>")).count(), 1);
            assert!(inside(HTML, element).len() > 1000);
        }
        assert_eq!(content_security_policy().matches("'sha256-").count(), 2);
    }

    #[test]
    fn the_page_names_no_other_place() {
        // The name space of SVG is a name, not a place.
        let text = HTML.replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("//cdn"));
    }
}
