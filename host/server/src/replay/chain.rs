//! The chain that a capture is replayed through: from a configuration like the relay's, or named on the command line.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use sandbar_host::{Chain, Engine, Grants, MemberSpec};

use crate::config::{Config, Member, PluginEntry, PluginSource};
use crate::relay::catalog;

/// What the command line says about the chain.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ChainArgs {
    /// A configuration with [chains] and [plugins], as the relay's; what else is in it does not matter
    #[arg(long, value_name = "FILE", conflicts_with = "plugins")]
    pub(crate) chain: Option<PathBuf>,

    /// Which of the configuration's chains, where there are several
    #[arg(long, value_name = "NAME", requires = "chain")]
    pub(crate) chain_name: Option<String>,

    /// A plugin of the chain, from the wire on: an embedded one's name or a component's file, and after = its
    /// configuration as JSON
    #[arg(long = "plugin", value_name = "NAME|FILE[={JSON}]")]
    pub(crate) plugins: Vec<String>,

    /// What the --plugin ones may do: a list such as emit-rtcp,read-media, or all, or none [default: all but read-media,
    /// sink and wasi]
    #[arg(long, value_name = "GRANTS", value_parser = grants, requires = "plugins")]
    pub(crate) grants: Option<Grants>,
}

/// `all`, `none`, or names with commas between them.
pub(crate) fn grants(text: &str) -> Result<Grants, String> {
    let mut granted = Grants::NONE;
    match text {
        "all" => return Ok(Grants::ALL),
        "none" => return Ok(granted),
        _ => {}
    }
    for name in text.split(',') {
        let grant = granted.by_name(name.trim());
        *grant.ok_or_else(|| {
            format!("no grant is called \"{name}\"; known: {}, all, none", Grants::NAMES.join(", "))
        })? = true;
    }
    Ok(granted)
}

/// Loads the chain. Returns it with warnings about its order.
pub(crate) fn load(engine: &Engine, args: &ChainArgs) -> anyhow::Result<(Chain, Vec<String>)> {
    let (config, name) = match &args.chain {
        Some(file) => from_file(file, args.chain_name.as_deref())?,
        None => from_names(&args.plugins, args.grants.unwrap_or_default())?,
    };
    let loaded = catalog::load_all(engine, &config, &catalog::Catalog::new()).map_err(|errors| {
        let problems: Vec<_> =
            errors.iter().map(|(path, error)| config.problem(path, error.to_string()).to_string()).collect();
        anyhow::Error::msg(problems.join("\n"))
    })?;
    let members = config.chains.get(&name).map(Vec::as_slice).unwrap_or_default();
    let spec = |member: &Member| {
        let loaded = loaded.get(&member.plugin)?;
        Some(MemberSpec {
            plugin: loaded.plugin.clone(),
            config: member.config.clone(),
            isolation: member.isolation,
            on_fault: member.on_fault,
            limits: member.limits,
            // What leaves the chain is written down anyway.
            sink: None,
        })
    };
    let chain = Chain::new(members.iter().filter_map(spec));
    let warnings = chain.warnings();
    Ok((chain, warnings))
}

/// The configuration of a file, with nothing but the chain that is wanted, and its name.
fn from_file(file: &Path, name: Option<&str>) -> anyhow::Result<(Config, String)> {
    let mut config = Config::load_chains(file)?;
    let names = || config.chains.keys().cloned().collect::<Vec<_>>().join(", ");
    let name = match (name, config.chains.len()) {
        (_, 0) => bail!("{}: there is no [chains.NAME] with members", file.display()),
        (Some(name), _) if config.chains.contains_key(name) => name.to_owned(),
        (Some(name), _) => bail!("{}: there is no chain {name}; there are {}", file.display(), names()),
        (None, 1) => names(),
        (None, _) => bail!("{}: there are several chains; choose one with --chain-name: {}", file.display(), names()),
    };
    config.chains.retain(|known, _| *known == name);
    let members = config.chains.values().flatten().map(|member| member.plugin.clone()).collect::<Vec<_>>();
    config.plugins.retain(|plugin, _| members.contains(plugin));
    config.routes.clear();
    Ok((config, name))
}

fn from_names(plugins: &[String], grants: Grants) -> anyhow::Result<(Config, String)> {
    const NAME: &str = "replay";
    let mut config = Config::default();
    let mut members = Vec::new();
    for said in plugins {
        // A file's name may have a `=` in it, but hardly one before a brace.
        let (name, json) = match said.find("={") {
            Some(at) => (&said[..at], &said[at + 1..]),
            None => (said.as_str(), "{}"),
        };
        serde_json::from_str::<serde::de::IgnoredAny>(json)
            .with_context(|| format!("the configuration after {name}= is not JSON"))?;
        let source = match sandbar_plugins::by_name(name) {
            Some(_) => PluginSource::Builtin(name.to_owned()),
            None if name.contains(['/', '.']) || Path::new(name).exists() => PluginSource::File(name.into()),
            None => {
                bail!("no embedded plugin is called \"{name}\", and there is no such file; embedded: {}", embedded())
            }
        };
        config.plugins.insert(name.to_owned(), PluginEntry { source, grants });
        members.push(Member::with_config(name, json));
    }
    config.chains.insert(NAME.to_owned(), members);
    Ok((config, NAME.to_owned()))
}

fn embedded() -> String {
    sandbar_plugins::ALL.iter().map(|plugin| plugin.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_named_or_all_or_none() {
        assert_eq!(grants("all"), Ok(Grants::ALL));
        assert_eq!(grants("none"), Ok(Grants::NONE));
        let two = Grants { emit_rtcp: true, read_media: true, ..Grants::NONE };
        assert_eq!(grants("emit-rtcp, read-media"), Ok(two));
        assert!(grants("emit-rtcp,network").unwrap_err().contains("\"network\""));
        assert!(grants("").is_err());
    }

    #[test]
    fn what_is_named_on_the_command_line_is_taken_apart() {
        let (config, name) = from_names(&["noop={\"a\":1}".to_owned(), "./x=y.wasm".to_owned()], Grants::NONE).unwrap();
        assert_eq!(config.chains[&name][0].config, "{\"a\":1}");
        assert_eq!(config.plugins["./x=y.wasm"].source, PluginSource::File("./x=y.wasm".into()));
        let wrong = from_names(&["nope".to_owned()], Grants::NONE).unwrap_err().to_string();
        assert!(wrong.contains("noop"), "{wrong}");
        assert!(from_names(&["noop={\"a\":".to_owned()], Grants::NONE).is_err());
    }
}
