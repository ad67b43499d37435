//! From TOML to [`Config`]: `[server]`, `[plugins.NAME]` and `[chains.NAME]`. Routes are in `routes`.

use std::path::PathBuf;
use std::time::Duration;

use sandbar_host::{FaultPolicy, Grants, Isolation, Limits, Quotas};
use toml::de::DeTable;

use crate::logging;

use super::problem::{ConfigError, KeyPath, Origin};
use super::reader::{Fields, Node, Notes};
use super::{Config, DEFAULT_SINK_BYTES, Member, PluginEntry, PluginSource, Server, Sink, Tenant, routes};

/// Reads a document, or says everything that is wrong with its form.
pub(super) fn document(origin: &Origin) -> Result<Config, ConfigError> {
    let document = DeTable::parse(&origin.text).map_err(|error| {
        let offset = error.span().map(|span| span.start);
        let message = format!("not TOML: {}", error.message());
        ConfigError::Invalid(vec![origin.problem_at(offset, &KeyPath::ROOT, message)])
    })?;
    let notes = Notes::default();
    let config = root(Fields::new(&notes, KeyPath::ROOT, document.get_ref()));
    let notes = notes.into_inner();
    if notes.is_empty() {
        return Ok(config);
    }
    let mut problems: Vec<_> = notes.iter().map(|(path, message)| origin.problem(path, message.as_str())).collect();
    problems.sort_by_key(|problem| problem.position);
    Err(ConfigError::Invalid(problems))
}

fn root(mut fields: Fields<'_>) -> Config {
    let config = Config {
        server: fields.get("server", |node| node.fields().map(server)).unwrap_or_default(),
        plugins: fields
            .get("plugins", |node| Some(node.fields()?.named(plugin)))
            .map(|plugins| plugins.into_iter().collect())
            .unwrap_or_default(),
        tenants: fields
            .get("tenants", |node| Some(node.fields()?.named(|_, node| node.fields().map(tenant))))
            .map(|tenants| tenants.into_iter().collect())
            .unwrap_or_default(),
        chains: fields
            .get("chains", |node| Some(node.fields()?.named(|_, node| chain(node))))
            .map(|chains| chains.into_iter().collect())
            .unwrap_or_default(),
        routes: fields.get("routes", |node| node.list(routes::route)).unwrap_or_default(),
        origin: None,
    };
    fields.finish();
    config
}

fn server(mut fields: Fields<'_>) -> Server {
    const MS: fn(u64) -> Duration = Duration::from_millis;
    let default = Server::default();
    let server = Server {
        workers: fields.get("workers", |node| node.integer(1_u32..=256)).map(|workers| workers as usize),
        cache: fields.get("cache", path),
        plugin_dirs: fields.get("plugin_dirs", |node| node.list(path)).unwrap_or_default(),
        call_deadline: fields.get("call_deadline", |node| node.duration(MS(1)..=MS(10_000))),
        watch: fields.get("watch", |node| node.duration_or_never(MS(10)..=MS(3_600_000))).unwrap_or(default.watch),
        drain: fields.get("drain", |node| node.duration(MS(0)..=MS(60_000))).unwrap_or(default.drain),
        log: fields.get("log", |node| {
            let what = "a log filter such as \"info\" or \"warn,sandbar=debug\"";
            node.parsed(what, |text| logging::filter(text).map(|_| text.to_owned()))
        }),
        stats_interval: fields
            .get("stats_interval", |node| node.duration_or_never(MS(100)..=MS(86_400_000)))
            .unwrap_or(default.stats_interval),
        socket_buffer: fields
            .get("socket_buffer", |node| node.integer(4096_i64..=1 << 30))
            .map_or(default.socket_buffer, |bytes| bytes as usize),
    };
    fields.finish();
    server
}

fn path(node: Node<'_>) -> Option<PathBuf> {
    node.name().map(PathBuf::from)
}

fn plugin(name: &str, node: Node<'_>) -> Option<PluginEntry> {
    let mut fields = node.fields()?;
    let file = fields.get("file", path);
    let builtin = fields.get("builtin", |node| node.name());
    let grants = fields.get("grants", grants).unwrap_or_default();
    let source = match (file, builtin) {
        (Some(_), Some(_)) => {
            fields.refuse("`file` and `builtin` exclude each other: a plugin comes from one place");
            None
        }
        (Some(file), None) => Some(PluginSource::File(file)),
        (None, Some(builtin)) => Some(PluginSource::Builtin(builtin)),
        (None, None) if fields.has("file") || fields.has("builtin") => None,
        (None, None) if sandbar_plugins::by_name(name).is_some() => Some(PluginSource::Builtin(name.to_owned())),
        (None, None) => {
            fields.refuse(
                "no plugin of this name is embedded, so it needs `file = \"PATH.wasm\"` or `builtin = \"NAME\"`",
            );
            None
        }
    };
    fields.finish();
    Some(PluginEntry { source: source?, grants })
}

fn tenant(mut fields: Fields<'_>) -> Tenant {
    let key = |node: Node<'_>| {
        node.parsed("a public key: \"ed25519:\" and 64 hexadecimal digits, as `sandbar plugin keygen` prints", |text| {
            text.parse().ok()
        })
    };
    let signed_by = fields.get("signed_by", |node| {
        // What is no key is told by itself.
        let keys = node.list(|node| Some(key(node)))?;
        match keys.is_empty() {
            true => node.refuse("no key is listed, so no file could be loaded; leave `signed_by` out to take any"),
            false => Some(keys.into_iter().flatten().collect()),
        }
    });
    let plugins = fields.get("plugins", |node| node.list(|node| node.name()));
    let grants = fields.get("grants", grants);
    let quotas = fields.get("quotas", |node| node.fields().map(quotas)).unwrap_or_default();
    fields.finish();
    Tenant { signed_by: signed_by.unwrap_or_default(), plugins, grants, quotas }
}

fn quotas(mut fields: Fields<'_>) -> Quotas {
    let mut bound = |key, least: i64, most: i64| {
        fields.get(key, |node| node.integer(least..=most)).and_then(|value| u64::try_from(value).ok())
    };
    let quotas = Quotas {
        sessions: bound("sessions", 0, 1 << 24),
        instances: bound("instances", 0, 1 << 24),
        memory: bound("memory", 0, 1 << 44),
        processor: bound("processor", 1, 100_000),
        processor_burst: bound("processor_burst", 0, 60_000),
        emitted_packets: bound("emitted_packets", 0, 1 << 32),
        emitted_bytes: bound("emitted_bytes", 0, 1 << 40),
        held_packets: bound("held_packets", 0, 1 << 32),
        timers: bound("timers", 0, 1 << 32),
        messages: bound("messages", 0, 1 << 32),
        metrics: bound("metrics", 0, 1 << 32),
        attribute_bytes: bound("attribute_bytes", 0, 1 << 40),
    };
    fields.finish();
    quotas
}

/// What is listed is granted, and nothing else.
fn grants(node: Node<'_>) -> Option<Grants> {
    let choices = Grants::NAMES.map(|name| (name, name));
    let mut granted = Grants::NONE;
    for name in node.list(|node| node.choice(&choices))? {
        if let Some(grant) = granted.by_name(name) {
            *grant = true;
        }
    }
    Some(granted)
}

fn chain(node: Node<'_>) -> Option<Vec<Member>> {
    let mut fields = node.fields()?;
    let members = fields.need("members", "a list such as [{ plugin = \"nack-responder\" }]", |node| node.list(member));
    fields.finish();
    members
}

fn member(node: Node<'_>) -> Option<Member> {
    // A plugin with nothing to say about it may stand as its name alone.
    if node.is_text() {
        return node.name().map(Member::new);
    }
    let mut fields = node.fields()?;
    let plugin = fields.need("plugin", "the name of a plugin, such as \"nack-responder\"", |node| node.name());
    let mut member = Member::new(plugin.unwrap_or_default());
    if let Some(config) = fields.get("config", config) {
        member.config = config;
    }
    member.isolation =
        fields.get("isolation", |node| node.choice(&[("session", Isolation::Session), ("tenant", Isolation::Tenant)]));
    if let Some(policy) = fields.get("on_fault", |node| {
        node.choice(&[("bypass", FaultPolicy::Bypass), ("drop", FaultPolicy::Drop), ("restart", FaultPolicy::Restart)])
    }) {
        member.on_fault = policy;
    }
    if let Some(limits) = fields.get("limits", |node| node.fields().map(limits)) {
        member.limits = limits;
    }
    member.sink = fields.get("sink", sink);
    fields.finish();
    (!member.plugin.is_empty()).then_some(member)
}

fn sink(node: Node<'_>) -> Option<Sink> {
    if node.is_text() {
        return node.name().map(Sink::new);
    }
    let mut fields = node.fields()?;
    let file = fields.need("file", "a path, such as \"captures/{leg}.pcapng\"", path);
    let max_bytes = fields.get("max_bytes", |node| node.integer(1..=1_i64 << 40));
    fields.finish();
    Some(Sink { file: file?, max_bytes: max_bytes.map_or(DEFAULT_SINK_BYTES, |bytes| bytes as u64) })
}

fn config(node: Node<'_>) -> Option<String> {
    node.fields()?;
    node.json().map(|json| json.to_string())
}

fn limits(mut fields: Fields<'_>) -> Limits {
    let default = Limits::default();
    let mut size = |key, most: i64, default: usize| {
        fields
            .get(key, |node| node.integer(0..=most))
            .map_or(default, |value| usize::try_from(value).unwrap_or(default))
    };
    let limits = Limits {
        memory: size("memory", 4 << 30, default.memory),
        table_elements: size("table_elements", 10_000_000, default.table_elements),
        emitted_packets: size("emitted_packets", 1 << 20, default.emitted_packets as usize) as u32,
        emitted_bytes: size("emitted_bytes", 1 << 30, default.emitted_bytes),
        history: size("history", 1 << 16, default.history as usize) as u32,
        held_packets: size("held_packets", 1 << 20, default.held_packets),
        held_bytes: size("held_bytes", 1 << 30, default.held_bytes),
        state: size("state", 1 << 30, default.state),
        messages: size("messages", 1 << 20, default.messages as usize) as u32,
        message: size("message", 1 << 24, default.message),
        metrics: size("metrics", 1 << 16, default.metrics),
        sessions: size("sessions", 1 << 20, default.sessions),
        sink_call: size("sink_call", 1 << 22, default.sink_call),
        sink_second: size("sink_second", 1 << 30, default.sink_second),
    };
    fields.finish();
    limits
}
