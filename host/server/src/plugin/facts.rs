//! What a plugin is, for people and machines.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use anyhow::Context;
use sandbar_host::{
    CONTRACT, ConfigOption, Digest, Grants, Isolation, Lane, LoadError, MemberSpec, Place, Plugin, PublicKey,
};
use serde::Serialize;

use crate::config::nearest;
use crate::tool::Tool;

/// A component's bytes, from a file or, by its name, from this program.
pub(crate) fn read(said: &Path) -> anyhow::Result<Cow<'static, [u8]>> {
    let embedded = said.to_str().and_then(sandbar_plugins::by_name);
    match (std::fs::read(said), embedded) {
        (Ok(bytes), _) => Ok(bytes.into()),
        (Err(error), Some(plugin)) if error.kind() == std::io::ErrorKind::NotFound => Ok(plugin.component.into()),
        (Err(error), _) => {
            let names = sandbar_plugins::ALL.iter().map(|plugin| plugin.name);
            let meant = said.to_str().and_then(|said| nearest(said, names));
            let hint = meant.map(|name| format!(" (is {name} meant?)")).unwrap_or_default();
            Err(error).with_context(|| format!("{}{hint}", said.display()))
        }
    }
}

/// Everything that is known without running it for a session.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Facts {
    name: String,
    version: String,
    summary: String,
    digest: Digest,
    signed_by: Vec<PublicKey>,
    size: usize,
    world: String,
    lane: Lane,
    place: Place,
    imports: Vec<String>,
    /// What it has to be granted.
    pub(crate) wants: Vec<&'static str>,
    /// What it uses where that is granted, and does without where it is not.
    pub(crate) may: Vec<&'static str>,
    /// Of what it wants, what is not granted where a configuration says nothing.
    pub(crate) wants_beyond_default: Vec<&'static str>,
    /// What it is asked about; the rest passes it by.
    binds: Vec<&'static str>,
    pub(crate) options: Vec<ConfigOption>,
    /// Who shares an instance, unless the operator says otherwise.
    pub(crate) isolation: Isolation,
}

impl Facts {
    pub(crate) fn of(plugin: &Plugin) -> Self {
        let description = plugin.description();
        let granted = |mut grants: Grants, name: &str| grants.by_name(name).is_some_and(|grant| *grant);
        let may: Vec<_> = description.may_read_media.then_some("read-media").into_iter().collect();
        let wanted = |name: &&str| granted(description.wants, name) && !may.contains(name);
        let wants: Vec<_> = Grants::NAMES.into_iter().filter(wanted).collect();
        let world = if plugin.lane() == Lane::Batched { "batched-interceptor" } else { "interceptor" };
        Self {
            name: description.name.clone(),
            version: description.version.clone(),
            summary: description.summary.clone(),
            digest: plugin.digest(),
            signed_by: plugin.signers().to_vec(),
            size: plugin.size(),
            world: format!("sandbar:interceptor/{world}@{CONTRACT}"),
            lane: plugin.lane(),
            place: description.place,
            imports: plugin.imports().to_vec(),
            may,
            wants_beyond_default: wants.iter().copied().filter(|name| !granted(Grants::default(), name)).collect(),
            wants,
            binds: description.binds.names(),
            options: description.options.clone(),
            isolation: MemberSpec::new(plugin.clone()).isolation(),
        }
    }

    /// One line.
    pub(crate) fn line(&self) -> String {
        format!("{:<22} {:<8} {:<16} {}", self.name, self.version, self.place.to_string(), self.summary)
    }
}

/// Loads with everything granted: to look at a plugin is not to run it.
pub(crate) fn load(tool: &Tool, component: &[u8]) -> Result<Plugin, LoadError> {
    Plugin::load(&tool.engine, component, &Grants::ALL)
}

fn list(items: &[impl AsRef<str>]) -> String {
    match items {
        [] => "nothing".to_owned(),
        items => items.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", "),
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lane = match self.lane {
            Lane::Batched => "batched: a call for each burst",
            Lane::Typed => "typed: a call for each packet",
        };
        let isolation = match self.isolation {
            Isolation::Tenant => "tenant: it sees no media, so a tenant's sessions on a worker share an instance",
            Isolation::Session => "session: it may see media, so each session has an instance of its own",
        };
        writeln!(f, "{} {}: {}", self.name, self.version, self.summary)?;
        writeln!(f, "  world      {}", self.world)?;
        writeln!(f, "  lane       {lane}")?;
        writeln!(f, "  place      {}", self.place)?;
        writeln!(f, "  wants      {}", list(&self.wants))?;
        if !self.wants_beyond_default.is_empty() {
            writeln!(f, "             {} not granted unless the configuration does", list(&self.wants_beyond_default))?;
        }
        if !self.may.is_empty() {
            writeln!(f, "  may        {}, where the configuration grants it", list(&self.may))?;
        }
        writeln!(f, "  binds      {}", list(&self.binds))?;
        writeln!(f, "  isolation  {isolation}")?;
        writeln!(f, "  size       {} bytes", self.size)?;
        writeln!(f, "  digest     sha256 {}", self.digest)?;
        for signer in &self.signed_by {
            writeln!(f, "  signed by  {signer}")?;
        }
        for (at, import) in self.imports.iter().enumerate() {
            writeln!(f, "  {:<10} {import}", if at == 0 { "imports" } else { "" })?;
        }
        options(f, &self.options)
    }
}

fn options(f: &mut fmt::Formatter<'_>, options: &[ConfigOption]) -> fmt::Result {
    if options.is_empty() {
        return writeln!(f, "  options    none");
    }
    let wide = |of: fn(&ConfigOption) -> usize, least| options.iter().map(of).max().unwrap_or(0).max(least);
    let (key, default, allowed) =
        (wide(|o| o.key.len(), 6), wide(|o| o.default.len() + o.unit.len() + 1, 7), wide(|o| o.allowed.len(), 7));
    writeln!(f, "\n  {:<key$}  {:<default$}  {:<allowed$}  ", "option", "default", "allowed")?;
    for option in options {
        let shown = format!("{} {}", option.default, option.unit);
        write!(f, "  {:<key$}  {shown:<default$}  {:<allowed$}  {}", option.key, option.allowed, option.summary)?;
        if option.source.is_empty() { writeln!(f)? } else { writeln!(f, " ({})", option.source)? }
    }
    Ok(())
}
