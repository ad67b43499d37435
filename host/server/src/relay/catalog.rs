//! The plugins of a relay: where each came from, compiled and ready to be put into chains.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sandbar_host::{Digest, Engine, LoadError, Plugin, PublicKey};

use crate::config::{Config, KeyPath, Leg, PluginEntry, PluginSource, Tenant};

/// Why a plugin that a configuration names does not run.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file is not there, or cannot be read.
    #[error("the plugin {name} cannot be read: {source}; looked for {}", listed(.places))]
    Read {
        /// The plugin's name in the configuration.
        name: String,
        /// What the operating system says about the last place.
        source: io::Error,
        /// Where it was looked for.
        places: Vec<PathBuf>,
    },
    /// It is there and is refused.
    #[error("the plugin {name} from {from} is refused: {source}")]
    Load {
        /// The plugin's name in the configuration.
        name: String,
        /// Where it came from.
        from: String,
        /// Why.
        source: LoadError,
    },
    /// Its tenant wants it signed, and not one of the tenant's keys has.
    #[error(
        "the plugin {name} from {from} is signed by {}, and the tenant {tenant} takes only what is signed by {}",
        keys(.signers), keys(.wanted)
    )]
    Unsigned {
        /// The plugin's name in the configuration.
        name: String,
        /// Where it came from.
        from: String,
        /// Whose chain it is in.
        tenant: String,
        /// Who has signed it.
        signers: Vec<PublicKey>,
        /// Of whom one would have to.
        wanted: Vec<PublicKey>,
    },
    /// It wants more than its tenant's plugins may be granted.
    #[error("the plugin {name} wants {}, which the tenant {tenant} does not grant", .missing.join(", "))]
    Ungranted {
        /// The plugin's name in the configuration.
        name: String,
        /// Whose chain it is in.
        tenant: String,
        /// What is not granted.
        missing: Vec<&'static str>,
    },
    /// No plugin has this name.
    #[error("there is no plugin {0}")]
    Unknown(String),
}

fn listed(places: &[PathBuf]) -> String {
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn keys(keys: &[PublicKey]) -> String {
    match keys {
        [] => "nobody".to_owned(),
        keys => keys.iter().map(PublicKey::to_string).collect::<Vec<_>>().join(" or "),
    }
}

/// A plugin as it was loaded.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) entry: PluginEntry,
    pub(crate) plugin: Plugin,
    /// The file it came from.
    pub(crate) file: Option<PathBuf>,
}

impl Loaded {
    /// Whether the other one is the same component with the same grants.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.plugin.digest() == other.plugin.digest() && self.entry.grants == other.entry.grants
    }
}

/// What tells that a file has changed without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    #[cfg(unix)]
    inode: u64,
}

impl Stamp {
    pub(crate) fn of(file: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(file)?;
        Ok(Self {
            modified: metadata.modified().ok(),
            size: metadata.len(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(&metadata),
        })
    }
}

/// Plugins by the name that chains use.
pub(crate) type Catalog = BTreeMap<String, Loaded>;

/// Loads every plugin of the configuration: those with an entry, and those that chains name. What is the same as in
/// `known` is taken from there and not compiled again. All errors are returned, with the key that each concerns.
pub(crate) fn load_all(
    engine: &Engine,
    config: &Config,
    known: &Catalog,
) -> Result<Catalog, Vec<(KeyPath, PluginError)>> {
    let mut catalog = Catalog::new();
    let mut errors = Vec::new();
    for (name, path) in named(config) {
        if catalog.contains_key(&name) {
            continue;
        }
        match load(engine, config, &name, known.get(&name)) {
            Ok(loaded) => {
                catalog.insert(name, loaded);
            }
            Err(error) => errors.push((path, error)),
        }
    }
    if errors.is_empty() {
        errors = catalog.iter().flat_map(|(name, loaded)| refusals(config, name, loaded)).collect();
    }
    if errors.is_empty() { Ok(catalog) } else { Err(errors) }
}

/// The routes in whose chains a plugin may not be: their tenants do not grant what it wants, or want it signed by others.
pub(crate) fn refusals(config: &Config, name: &str, loaded: &Loaded) -> Vec<(KeyPath, PluginError)> {
    let in_chain = |leg: &Leg| {
        let chain = leg.chain.as_ref().and_then(|chain| config.chains.get(chain));
        chain.is_some_and(|members| members.iter().any(|member| member.plugin == name))
    };
    let refused = config.routes.iter().enumerate().filter_map(|(index, route)| {
        let mut legs = std::iter::once(&route.publisher.leg).chain(route.subscribers.iter().map(|peer| &peer.leg));
        let tenant = config.tenants.get(&route.tenant).filter(|_| legs.any(in_chain))?;
        let error =
            ungranted(tenant, name, loaded, &route.tenant).or_else(|| unsigned(tenant, name, loaded, &route.tenant))?;
        Some((KeyPath::ROOT.key("routes").index(index).key("tenant"), error))
    });
    refused.collect()
}

fn ungranted(tenant: &Tenant, name: &str, loaded: &Loaded, tenant_name: &str) -> Option<PluginError> {
    let missing = loaded.plugin.description().wants.beyond(tenant.grants?);
    (!missing.is_empty()).then(|| PluginError::Ungranted {
        name: name.to_owned(),
        tenant: tenant_name.to_owned(),
        missing,
    })
}

fn unsigned(tenant: &Tenant, name: &str, loaded: &Loaded, tenant_name: &str) -> Option<PluginError> {
    let (wanted, signers) = (&tenant.signed_by, loaded.plugin.signers());
    // Embedded plugins are the program's own.
    let builtin = matches!(loaded.entry.source, PluginSource::Builtin(_));
    let trusted = builtin || wanted.is_empty() || signers.iter().any(|signer| wanted.contains(signer));
    (!trusted).then(|| PluginError::Unsigned {
        name: name.to_owned(),
        from: loaded.file.as_ref().map_or("memory".to_owned(), |file| file.display().to_string()),
        tenant: tenant_name.to_owned(),
        signers: signers.to_vec(),
        wanted: wanted.clone(),
    })
}

fn named(config: &Config) -> Vec<(String, KeyPath)> {
    let entries = config.plugins.iter().map(|(name, entry)| {
        let path = KeyPath::ROOT.key("plugins").key(name);
        let path = if matches!(entry.source, PluginSource::File(_)) { path.key("file") } else { path };
        (name.clone(), path)
    });
    let members = config.chains.iter().flat_map(|(chain, members)| {
        let path = KeyPath::ROOT.key("chains").key(chain).key("members");
        members.iter().enumerate().map(move |(index, member)| (member.plugin.clone(), path.index(index).key("plugin")))
    });
    entries.chain(members).collect()
}

/// Loads one plugin, unless `known` is it.
pub(crate) fn load(
    engine: &Engine,
    config: &Config,
    name: &str,
    known: Option<&Loaded>,
) -> Result<Loaded, PluginError> {
    let entry = config.plugin(name).ok_or_else(|| PluginError::Unknown(name.to_owned()))?;
    let Component { bytes, from, file } = read(config, name, &entry.source)?;
    // What is in quarantine begins anew.
    if let Some(known) = known.filter(|known| !known.plugin.quarantined())
        && known.entry.grants == entry.grants
        && known.plugin.digest() == Digest::of(&bytes)
    {
        return Ok(Loaded { entry, plugin: known.plugin.clone(), file });
    }
    let plugin = Plugin::load(engine, &bytes, &entry.grants).map_err(|source| PluginError::Load {
        name: name.to_owned(),
        from,
        source,
    })?;
    Ok(Loaded { entry, plugin, file })
}

/// A component that was read.
struct Component<'c> {
    bytes: Cow<'c, [u8]>,
    /// Where from, for people.
    from: String,
    file: Option<PathBuf>,
}

fn read<'c>(config: &Config, name: &str, source: &'c PluginSource) -> Result<Component<'c>, PluginError> {
    match source {
        PluginSource::Builtin(builtin) => {
            let embedded = sandbar_plugins::by_name(builtin).ok_or_else(|| PluginError::Unknown(builtin.clone()))?;
            let from = format!("this program ({builtin})");
            Ok(Component { bytes: embedded.component.into(), from, file: None })
        }
        PluginSource::Bytes(bytes) => Ok(Component { bytes: (&**bytes).into(), from: "memory".to_owned(), file: None }),
        PluginSource::File(file) => {
            let places = config.candidates(file);
            let mut last = io::Error::from(io::ErrorKind::NotFound);
            for place in &places {
                match std::fs::read(place) {
                    Ok(bytes) => {
                        let from = place.display().to_string();
                        return Ok(Component { bytes: bytes.into(), from, file: Some(place.clone()) });
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
                    Err(error) => {
                        last = error;
                        break;
                    }
                }
            }
            Err(PluginError::Read { name: name.to_owned(), source: last, places })
        }
    }
}
