//! Which groups at the provider give which roles here: the rules of `oidc.roles`, read once at the start.

use keyward_core::access::Role;
use serde_json::Value;

use super::id_token::Claims;

/// `place:role:group`; the group stands last, because its name may hold everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// Slug or id of an organization; `None` at the instance.
    pub place: Option<String>,
    pub role: Role,
    group: String,
}

/// Reads the setting; answers what is wrong with it.
pub(super) fn read(texts: &[String]) -> Result<Vec<Rule>, String> {
    texts
        .iter()
        .map(|text| {
            let mut parts = text.splitn(3, ':');
            let (Some(place), Some(role), Some(group)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(format!("{text:?} is not place:role:group"));
            };
            let role = role.parse().map_err(|()| format!("{text:?}: there is no role {role:?}"))?;
            if place.is_empty() || group.is_empty() {
                return Err(format!("{text:?} is not place:role:group"));
            }
            Ok(Rule { place: (place != "instance").then(|| place.to_owned()), role, group: group.to_owned() })
        })
        .collect()
}

/// The roles that somebody's groups give: for each place the highest. `None` where the provider does not tell the groups, so
/// that nothing is given and nothing taken back.
pub(super) fn apply<'a>(rules: &'a [Rule], claims: &Claims, claim: &str) -> Option<Vec<(Option<&'a str>, Role)>> {
    if claims.has_too_many(claim) {
        return None;
    }
    let groups = groups_of(claims.0.get(claim));
    let mut given: Vec<(Option<&str>, Role)> = Vec::new();
    for role in Role::ALL {
        for rule in rules.iter().filter(|rule| rule.role == role && groups.contains(&rule.group.as_str())) {
            let place = rule.place.as_deref();
            if given.iter().all(|(known, _)| *known != place) {
                given.push((place, role));
            }
        }
    }
    Some(given)
}

/// A list of texts, or one text.
fn groups_of(claim: Option<&Value>) -> Vec<&str> {
    match claim {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(one)) => vec![one],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given(claims: Value) -> Option<Vec<(Option<String>, Role)>> {
        let texts = ["acme:viewer:staff", "acme:admin:ops:night", "instance:auditor:staff", "other:owner:bosses"];
        let rules = read(&texts.map(str::to_owned)).unwrap();
        let claims = Claims(claims.as_object().unwrap().clone());
        let given = apply(&rules, &claims, "groups")?;
        Some(given.into_iter().map(|(place, role)| (place.map(str::to_owned), role)).collect())
    }

    #[test]
    fn the_highest_role_of_each_place_is_given() {
        let acme = || Some("acme".to_owned());
        assert_eq!(
            given(json!({ "groups": ["ops:night", "staff"] })),
            Some(vec![(acme(), Role::Admin), (None, Role::Auditor)])
        );
        assert_eq!(given(json!({ "groups": "staff" })), Some(vec![(None, Role::Auditor), (acme(), Role::Viewer)]));
        assert_eq!(given(json!({ "groups": [["staff"], 7, "Staff"] })), Some(vec![]));
        assert_eq!(given(json!({})), Some(vec![]));
        assert_eq!(given(json!({ "_claim_names": { "groups": "src1" } })), None);
    }

    #[test]
    fn a_bad_rule_is_told() {
        for text in ["acme:admin", "acme:boss:x", ":admin:x", "acme:admin:"] {
            assert!(read(&[text.to_owned()]).is_err(), "{text}");
        }
    }
}
