//! What an IAM policy allows.

use serde::Deserialize;

/// An IAM policy, of the elements that such a policy for a bucket needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Policy {
    version: String,
    statement: Vec<Statement>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Statement {
    effect: Effect,
    action: OneOrMore,
    resource: OneOrMore,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Effect {
    Allow,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(more) => more,
        }
    }
}

impl Policy {
    /// Reads a policy. Panics where it has an element that is not known here, so that nothing is allowed by mistake.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let policy: Self = serde_json::from_str(text).unwrap_or_else(|error| panic!("not a policy: {error} in {text}"));
        assert_eq!(policy.version, "2012-10-17", "the version of the language of policies");
        policy
    }

    /// The policy without one action of one of its statements, for each action: `(what is missing, the rest)`.
    pub fn each_without_one(&self) -> Vec<(String, Self)> {
        let mut all = Vec::new();
        for (index, statement) in self.statement.iter().enumerate() {
            for action in statement.action.all() {
                let mut rest = self.clone();
                let others = statement.action.all().iter().filter(|other| *other != action).cloned();
                rest.statement[index].action = OneOrMore::More(others.collect());
                all.push((action.clone(), rest));
            }
        }
        all
    }

    /// Whether it allows `action`, such as `s3:GetObject`, on the resource with this name.
    pub(crate) fn allows(&self, action: &str, resource: &str) -> bool {
        self.statement.iter().any(|Statement { effect: Effect::Allow, action: actions, resource: resources }| {
            actions.all().iter().any(|pattern| pattern == action)
                && resources.all().iter().any(|pattern| matches(pattern, resource))
        })
    }
}

/// Whether `text` is as `pattern` says, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    (0..=text.len()).filter(|&end| text.is_char_boundary(end)).any(|end| matches(rest, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::b"},
        {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": ["arn:aws:s3:::b/p/*/key"]}
    ]}"#;

    #[test]
    fn what_is_not_allowed_is_denied() {
        let policy = Policy::parse(POLICY);
        assert!(policy.allows("s3:ListBucket", "arn:aws:s3:::b"));
        assert!(policy.allows("s3:PutObject", "arn:aws:s3:::b/p/a/b/key"));
        assert!(!policy.allows("s3:PutObject", "arn:aws:s3:::b/p/key"));
        assert!(!policy.allows("s3:DeleteObject", "arn:aws:s3:::b/p/a/key"));
        assert!(!policy.allows("s3:ListBucket", "arn:aws:s3:::b2"));
    }

    #[test]
    fn each_action_can_be_left_out() {
        let without = Policy::parse(POLICY).each_without_one();
        assert_eq!(without.len(), 3);
        let (action, policy) = &without[1];
        assert_eq!(action, "s3:GetObject");
        assert!(!policy.allows("s3:GetObject", "arn:aws:s3:::b/p/a/key"));
        assert!(policy.allows("s3:PutObject", "arn:aws:s3:::b/p/a/key"));
    }

    #[test]
    #[should_panic(expected = "unknown field `Condition`")]
    fn what_is_not_understood_is_refused() {
        Policy::parse(&POLICY.replacen("\"Resource\"", "\"Condition\": {}, \"Resource\"", 1));
    }
}
