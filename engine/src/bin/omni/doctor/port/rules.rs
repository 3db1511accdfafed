//! Whether a packet filter lets a message of a new peer in: its rules, read as far as they are
//! understood. What is not understood may match or not.

use std::collections::BTreeMap;

use serde_json::Value;

/// The packet: UDP, the first of its flow, to this host.
pub(super) struct Packet<'a> {
    /// Where it comes in.
    pub(super) interface: &'a str,
    /// Where it goes to.
    pub(super) port: u16,
}

/// What becomes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It gets in.
    Accept,
    /// It is dropped, and by what.
    Drop(String),
    /// It may be dropped, and by what, as a rule is not understood.
    Maybe(String),
}

/// Whether a rule, or a part of one, matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Match {
    Yes,
    No,
    Unknown,
}

impl Match {
    const fn of(matches: bool) -> Self {
        if matches { Self::Yes } else { Self::No }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Unknown,
        }
    }

    const fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }
}

/// Where a rule leads.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Target {
    Accept,
    Drop,
    Return,
    Jump(String),
    /// It counts, logs, or does what is not understood.
    Next,
}

/// A rule: whether it matches, and what happens then.
struct Rule {
    matches: Match,
    target: Target,
}

/// How deep chains call each other.
const DEPTH_MAX: usize = 16;

/// The rules of one filter, by chain.
struct Filter {
    chains: BTreeMap<String, Vec<Rule>>,
}

impl Filter {
    /// Goes through a chain. `None`: its end. `unsure`: something before may have dropped it.
    fn walk(&self, chain: &str, unsure: &mut Option<String>, depth: usize) -> Option<Verdict> {
        let rules = self.chains.get(chain).filter(|_| depth < DEPTH_MAX)?;
        for rule in rules {
            match (rule.matches, &rule.target) {
                (Match::No, _) | (_, Target::Next) => {}
                (Match::Yes, Target::Accept) => return Some(accepted(unsure)),
                (Match::Yes, Target::Drop) => return Some(Verdict::Drop(format!("chain {chain}"))),
                (Match::Yes, Target::Return) => return None,
                (Match::Unknown, Target::Drop) => *unsure = Some(format!("chain {chain}")),
                // Whether the rest is gone through is not known: it is, as if it did not match.
                (Match::Unknown, Target::Accept | Target::Return) => {
                    unsure.get_or_insert_with(String::new);
                }
                (matches, Target::Jump(other)) => {
                    let verdict = self.walk(other, unsure, depth + 1);
                    match (matches, verdict) {
                        (Match::Yes, Some(verdict)) => return Some(verdict),
                        (_, Some(Verdict::Drop(by) | Verdict::Maybe(by))) => *unsure = Some(by),
                        (_, Some(Verdict::Accept)) => {
                            unsure.get_or_insert_with(String::new);
                        }
                        (_, None) => {}
                    }
                }
            }
        }
        None
    }

    /// What becomes of the packet in a base chain.
    fn verdict(&self, chain: &str, drops: bool) -> Verdict {
        let mut unsure = None;
        let by = format!("chain {chain}, whose policy is drop");
        match self.walk(chain, &mut unsure, 0) {
            Some(Verdict::Drop(by)) if unsure.is_some() => Verdict::Maybe(by),
            Some(verdict) => verdict,
            None if drops && unsure.is_some() => Verdict::Maybe(by),
            None if drops => Verdict::Drop(by),
            None => accepted(&unsure),
        }
    }
}

/// It gets in, unless something before was not understood that drops.
fn accepted(unsure: &Option<String>) -> Verdict {
    match unsure {
        Some(by) if !by.is_empty() => Verdict::Maybe(by.clone()),
        _ => Verdict::Accept,
    }
}

/// The worst of several filters that the packet passes one after the other.
fn worst(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
    let mut worst = Verdict::Accept;
    for verdict in verdicts {
        match verdict {
            Verdict::Drop(_) => return verdict,
            Verdict::Maybe(_) => worst = verdict,
            Verdict::Accept => {}
        }
    }
    worst
}

/// By what `nft --json list ruleset` prints. `None` where that is none.
pub(super) fn nftables(text: &str, packet: &Packet<'_>) -> Option<Verdict> {
    let root: Value = serde_json::from_str(text).ok()?;
    let objects = root.get("nftables")?.as_array()?;
    let name_of = |object: &Value, chain: &str| {
        let part = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        format!("{} {} {}", part("family"), part("table"), part(chain))
    };
    let mut filter = Filter {
        chains: BTreeMap::new(),
    };
    let mut bases = Vec::new();
    for chain in objects.iter().filter_map(|object| object.get("chain")) {
        let name = name_of(chain, "name");
        let text = |key: &str| chain.get(key).and_then(Value::as_str);
        let is_ours = matches!(text("hook"), Some("input" | "prerouting" | "ingress"));
        let family = matches!(text("family"), Some("inet" | "ip" | "netdev"));
        if is_ours && family && text("type") == Some("filter") {
            bases.push((name.clone(), text("policy") == Some("drop")));
        }
        filter.chains.insert(name, Vec::new());
    }
    for rule in objects.iter().filter_map(|object| object.get("rule")) {
        let statements = rule.get("expr").and_then(Value::as_array);
        let statements = statements.map(Vec::as_slice).unwrap_or_default();
        let prefix = name_of(rule, "none");
        let read = nft_rule(statements, packet, &prefix);
        let name = name_of(rule, "chain");
        filter.chains.entry(name).or_default().push(read);
    }
    let verdicts = bases
        .iter()
        .map(|(name, drops)| filter.verdict(name, *drops));
    Some(worst(verdicts))
}

/// `prefix`: family and table, with a blank.
fn nft_rule(statements: &[Value], packet: &Packet<'_>, prefix: &str) -> Rule {
    let mut rule = Rule {
        matches: Match::Yes,
        target: Target::Next,
    };
    for statement in statements {
        let Some((kind, value)) = statement.as_object().and_then(|it| it.iter().next()) else {
            continue;
        };
        match kind.as_str() {
            "match" => rule.matches = rule.matches.and(nft_match(value, packet)),
            "accept" => rule.target = Target::Accept,
            "drop" | "reject" => rule.target = Target::Drop,
            "return" => rule.target = Target::Return,
            "jump" | "goto" => {
                let target = value.get("target").and_then(Value::as_str);
                rule.target = Target::Jump(format!("{prefix}{}", target.unwrap_or_default()));
            }
            "counter" | "log" | "comment" => {}
            // Limits, sets, and matches of iptables: they may hold.
            _ => rule.matches = rule.matches.and(Match::Unknown),
        }
    }
    rule
}

fn nft_match(value: &Value, packet: &Packet<'_>) -> Match {
    let Some(right) = value.get("right") else {
        return Match::Unknown;
    };
    let left = value.get("left").unwrap_or(&Value::Null);
    let meta = left.pointer("/meta/key").and_then(Value::as_str);
    let ct = left.pointer("/ct/key").and_then(Value::as_str);
    let payload = (
        left.pointer("/payload/protocol").and_then(Value::as_str),
        left.pointer("/payload/field").and_then(Value::as_str),
    );
    let matched = match (meta, ct, payload) {
        (Some("iifname" | "iif"), ..) => holds(right, &|it| {
            let name = it.as_str()?;
            let start = name.strip_suffix('*');
            Some(start.map_or(name == packet.interface, |start| {
                packet.interface.starts_with(start)
            }))
        }),
        (Some("l4proto"), ..) | (None, None, (Some("ip"), Some("protocol"))) => {
            holds(right, &|it| {
                Some(it.as_str() == Some("udp") || it.as_u64() == Some(17))
            })
        }
        (Some("nfproto"), ..) => holds(right, &|it| Some(it.as_str() == Some("ipv4"))),
        (_, Some("state"), _) => holds(right, &|it| Some(it.as_str() == Some("new"))),
        (_, _, (Some("udp" | "th"), Some("dport"))) => {
            holds(right, &|it| Some(it.as_u64()? == u64::from(packet.port)))
        }
        (_, _, (Some("tcp" | "icmp" | "icmpv6" | "sctp" | "ip6"), _)) => Match::No,
        _ => Match::Unknown,
    };
    match value.get("op").and_then(Value::as_str) {
        Some("==" | "in") => matched,
        Some("!=") => matched.not(),
        _ => Match::Unknown,
    }
}

/// Whether one of the values on the right of a match holds: one, a list, a set or a range.
fn holds(right: &Value, is_it: &dyn Fn(&Value) -> Option<bool>) -> Match {
    if let Some(values) = right.get("set").or(Some(right)).and_then(Value::as_array) {
        let each: Vec<Match> = values.iter().map(|value| holds(value, is_it)).collect();
        return match () {
            () if each.contains(&Match::Yes) => Match::Yes,
            () if each.contains(&Match::Unknown) => Match::Unknown,
            () => Match::No,
        };
    }
    if let Some([low, high]) = right
        .get("range")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        && let (Some(low), Some(high)) = (low.as_u64(), high.as_u64())
    {
        let within = (low..=high.min(65_535)).any(|port| is_it(&Value::from(port)) == Some(true));
        return Match::of(within);
    }
    // A named set, whose elements are elsewhere.
    if right.as_str().is_some_and(|text| text.starts_with('@')) {
        return Match::Unknown;
    }
    is_it(right).map_or(Match::Unknown, Match::of)
}

/// By what `iptables-save -t filter` prints. `None` where that has no table of that name.
pub(super) fn iptables(text: &str, packet: &Packet<'_>) -> Option<Verdict> {
    let mut filter = Filter {
        chains: BTreeMap::new(),
    };
    let mut drops = false;
    let mut inside = false;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match &words[..] {
            [table] if table.starts_with('*') => inside = *table == "*filter",
            [chain, policy, ..] if inside && chain.starts_with(':') => {
                drops |= *chain == ":INPUT" && *policy == "DROP";
                filter.chains.entry(chain[1..].to_owned()).or_default();
            }
            ["-A", chain, rest @ ..] if inside => {
                let rule = iptables_rule(rest, packet);
                filter
                    .chains
                    .entry((*chain).to_owned())
                    .or_default()
                    .push(rule);
            }
            _ => {}
        }
    }
    filter
        .chains
        .contains_key("INPUT")
        .then(|| filter.verdict("INPUT", drops))
}

fn iptables_rule(words: &[&str], packet: &Packet<'_>) -> Rule {
    let mut rule = Rule {
        matches: Match::Yes,
        target: Target::Next,
    };
    let mut words = words.iter();
    let mut negated = false;
    while let Some(word) = words.next() {
        let mut value = || words.next().copied().unwrap_or_default();
        let matched = match *word {
            "!" => {
                negated = true;
                continue;
            }
            "-j" | "-g" => {
                rule.target = match value() {
                    "ACCEPT" => Target::Accept,
                    "DROP" | "REJECT" => Target::Drop,
                    "RETURN" => Target::Return,
                    "LOG" | "MARK" | "NFLOG" => Target::Next,
                    chain => Target::Jump(chain.to_owned()),
                };
                // What follows are options of the target.
                break;
            }
            // Names of what comes next.
            "-m" => {
                value();
                Match::Yes
            }
            "-p" => Match::of(matches!(value(), "udp" | "all" | "17")),
            "-i" => {
                let name = value();
                let start = name.strip_suffix('+');
                Match::of(start.map_or(name == packet.interface, |start| {
                    packet.interface.starts_with(start)
                }))
            }
            "--dport" | "--dports" => Match::of(value().split(',').any(|part| {
                let (low, high) = part.split_once(':').unwrap_or((part, part));
                let (low, high) = (low.parse::<u16>(), high.parse::<u16>());
                low.is_ok_and(|low| low <= packet.port)
                    && high.is_ok_and(|high| packet.port <= high)
            })),
            "--ctstate" | "--state" => Match::of(value().split(',').any(|state| state == "NEW")),
            _ => Match::Unknown,
        };
        let matched = if std::mem::take(&mut negated) {
            matched.not()
        } else {
            matched
        };
        rule.matches = rule.matches.and(matched);
    }
    rule
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PACKET: Packet<'static> = Packet {
        interface: "eth0",
        port: 51820,
    };

    /// A table as Debian's, with these rules in its chain `input`.
    fn ruleset(policy: &str, rules: &[Value]) -> String {
        let base = json!({"chain": {"family": "inet", "table": "filter", "name": "input",
            "type": "filter", "hook": "input", "prio": 0, "policy": policy}});
        let rules = rules.iter().map(|expr| {
            json!({"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": expr}})
        });
        let objects: Vec<Value> = std::iter::once(base).chain(rules).collect();
        json!({ "nftables": objects }).to_string()
    }

    fn is(left: Value, right: Value) -> Value {
        json!({"match": {"op": "==", "left": left, "right": right}})
    }

    fn dport(right: Value) -> Value {
        is(
            json!({"payload": {"protocol": "udp", "field": "dport"}}),
            right,
        )
    }

    fn judged(policy: &str, rules: &[Value]) -> Verdict {
        nftables(&ruleset(policy, rules), &PACKET).unwrap()
    }

    #[test]
    fn a_policy_of_drop_holds_until_a_rule_lets_the_port_in() {
        let established = json!([
            is(json!({"ct": {"key": "state"}}), json!(["established", "related"])),
            {"accept": null}
        ]);
        let loopback =
            json!([is(json!({"meta": {"key": "iifname"}}), json!("lo")), {"accept": null}]);
        let common = [established, loopback];
        assert!(matches!(judged("drop", &common), Verdict::Drop(_)));
        assert_eq!(judged("accept", &common), Verdict::Accept);
        let ways = [
            json!(51820),
            json!({"set": [53, 51820]}),
            json!({"range": [51000, 52000]}),
            json!({"set": [{"range": [51000, 52000]}]}),
        ];
        for way in ways {
            let [first, second] = common.clone();
            let rules = [first, second, json!([dport(way.clone()), {"accept": null}])];
            assert_eq!(judged("drop", &rules), Verdict::Accept, "{way}");
        }
        let other = [json!([dport(json!(51821)), {"accept": null}])];
        assert!(matches!(judged("drop", &other), Verdict::Drop(_)));
    }

    #[test]
    fn a_rule_that_drops_the_port_is_found_and_one_of_others_is_not() {
        let drop = |right: Value| [json!([dport(right), {"counter": {}}, {"drop": null}])];
        assert!(matches!(
            judged("accept", &drop(json!(51820))),
            Verdict::Drop(_)
        ));
        assert_eq!(judged("accept", &drop(json!(53))), Verdict::Accept);
        let tcp = json!({"payload": {"protocol": "tcp", "field": "dport"}});
        let rule = [json!([is(tcp, json!(51820)), {"drop": null}])];
        assert_eq!(judged("accept", &rule), Verdict::Accept);
    }

    #[test]
    fn what_is_not_understood_may_hold() {
        let named = [json!([dport(json!("@ports")), {"drop": null}])];
        assert!(matches!(judged("accept", &named), Verdict::Maybe(_)));
        let source = json!({"payload": {"protocol": "ip", "field": "saddr"}});
        let from = [json!([is(source, json!("192.0.2.0")), {"accept": null}])];
        assert!(matches!(judged("drop", &from), Verdict::Maybe(_)));
        assert_eq!(judged("accept", &from), Verdict::Accept);
        assert_eq!(nftables("no JSON", &PACKET), None);
    }

    #[test]
    fn rules_of_iptables_are_read_too() {
        let judged = |rules: &str| {
            let text = format!("*nat\n:INPUT DROP [0:0]\nCOMMIT\n*filter\n{rules}COMMIT\n");
            iptables(&text, &PACKET)
        };
        let drop = ":INPUT DROP [0:0]\n\
                    -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                    -A INPUT -i lo -j ACCEPT\n";
        assert!(matches!(judged(drop), Some(Verdict::Drop(_))));
        let open = format!("{drop}-A INPUT -p udp -m udp --dport 51820 -j ACCEPT\n");
        assert_eq!(judged(&open), Some(Verdict::Accept));
        let chain = format!(
            "{drop}:mine - [0:0]\n-A INPUT -p udp -j mine\n\
                             -A mine -p udp -m multiport --dports 53,51000:52000 -j ACCEPT\n"
        );
        assert_eq!(judged(&chain), Some(Verdict::Accept));
        let rejected = ":INPUT ACCEPT [0:0]\n-A INPUT ! -i lo -p udp -j REJECT --reject-with x\n";
        assert!(matches!(judged(rejected), Some(Verdict::Drop(_))));
        let some = ":INPUT ACCEPT [0:0]\n-A INPUT -s 192.0.2.0/24 -p udp -j DROP\n";
        assert!(matches!(judged(some), Some(Verdict::Maybe(_))));
        assert_eq!(judged(""), None);
    }
}
