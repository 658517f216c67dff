//! Resolution of user and group names for `--chown`.

use thiserror::Error;

use super::file_tree::FileTree;
use super::layer_plan::Owner;
use crate::model::text::excerpt;

/// Error for an unknown user or group.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum UsersError {
    #[error("the image has no user `{}` in `/etc/passwd`", excerpt(.0, 60))]
    NoUser(String),
    #[error("the image has no group `{}` in `/etc/group`", excerpt(.0, 60))]
    NoGroup(String),
}

/// Resolves `user` or `user:group`, each a name or a number.
///
/// The default group is the primary group of a named user, or the number of a numeric user.
pub(super) fn owner(text: &str, tree: &FileTree) -> Result<Owner, UsersError> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| {
        (user, Some(group).filter(|group| !group.is_empty()))
    });
    let number = |name: &str| name.parse::<u32>().ok().map(u64::from);
    let (uid, own_group) = match number(user) {
        Some(uid) => (uid, uid),
        None if user.is_empty() => (0, 0),
        None => {
            let fields = entry(tree.passwd.as_deref(), user);
            let found =
                fields.and_then(|fields| Some((number(fields.get(2)?)?, number(fields.get(3)?)?)));
            found.ok_or_else(|| UsersError::NoUser(user.to_owned()))?
        }
    };
    let gid = match group {
        None => own_group,
        Some(group) => match number(group) {
            Some(gid) => gid,
            None => entry(tree.group.as_deref(), group)
                .and_then(|fields| number(fields.get(2)?))
                .ok_or_else(|| UsersError::NoGroup(group.to_owned()))?,
        },
    };
    Ok(Owner { uid, gid })
}

/// Returns the fields of the line of `name`.
fn entry<'a>(text: Option<&'a str>, name: &str) -> Option<Vec<&'a str>> {
    text?
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_resolves_names_and_numbers() {
        let mut tree = FileTree::default();
        tree.passwd = Some("root:x:0:0::/:\napp:x:100:101::/:\nbroken:x\n".to_owned());
        tree.group = Some("staff:x:50:\n".to_owned());
        for (text, uid, gid) in [
            ("app", 100, 101),
            ("app:staff", 100, 50),
            ("7", 7, 7),
            ("7:8", 7, 8),
            (":staff", 0, 50),
            ("app:", 100, 101),
            ("0:0", 0, 0),
        ] {
            assert_eq!(owner(text, &tree), Ok(Owner { uid, gid }), "{text}");
        }
        assert_eq!(
            owner("none", &tree),
            Err(UsersError::NoUser("none".to_owned()))
        );
        assert_eq!(
            owner("broken", &tree),
            Err(UsersError::NoUser("broken".to_owned()))
        );
        assert_eq!(
            owner("app:none", &tree),
            Err(UsersError::NoGroup("none".to_owned()))
        );
        assert!(owner("-1", &tree).is_err() && owner("99999999999", &tree).is_err());
    }
}
