//! References to other databases.

use std::collections::BTreeMap;

use perdure_format::Oid;

use crate::pack::oids::{OidMap, OidSet};

/// One object that refers to each, by the database and the oid that are referred to.
pub(super) type Referrers = BTreeMap<(String, Oid), Oid>;

/// Objects of other databases, by the databases' names.
pub(super) type Targets = BTreeMap<String, OidSet>;

/// What records refer to in other databases, by the databases' names.
pub(super) enum Others {
    /// With the oid of one that refers to each, plus one.
    Told(BTreeMap<String, OidMap>),
    /// A bit each: who refers to it is found out where it turns out not to exist.
    Noted(Targets),
}

impl Others {
    pub(super) fn insert(&mut self, database: &[u8], target: Oid, referrer: Oid) {
        let name = String::from_utf8_lossy(database);
        match self {
            Self::Told(known) => {
                let known = match known.get_mut(name.as_ref()) {
                    Some(known) => known,
                    None => known.entry(name.into_owned()).or_default(),
                };
                if known.get(target).is_none() {
                    known.insert(target, referrer.0.saturating_add(1));
                }
            }
            Self::Noted(known) => match known.get_mut(name.as_ref()) {
                Some(known) => known.insert(target),
                None => known.entry(name.into_owned()).or_default().insert(target),
            },
        }
    }

    /// All of them, where those who refer to them are known.
    pub(super) fn told(&self) -> Referrers {
        let Self::Told(known) = self else {
            return Referrers::new();
        };
        let all = known.iter().flat_map(|(name, referred)| {
            let of_one = referred.iter();
            of_one.map(|(oid, referrer)| ((name.clone(), oid), Oid(referrer - 1)))
        });
        all.collect()
    }

    /// Those that are not known to exist, where a bit for each was kept.
    pub(super) fn but(&self, exists: impl Fn(&str, Oid) -> bool) -> Targets {
        let mut left = Targets::new();
        if let Self::Noted(known) = self {
            for (name, referred) in known {
                for oid in referred.iter().filter(|oid| !exists(name, *oid)) {
                    left.entry(name.clone()).or_default().insert(oid);
                }
            }
        }
        left
    }
}
