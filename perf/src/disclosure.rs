//! What a measurement was made on. A figure without its machine says nothing, so every report
//! carries this, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

use serde::Serialize;

/// The compiler that built this program, as it calls itself.
pub(crate) const COMPILER: &str = env!("OMNI_COMPILER");
/// What it was built for.
pub(crate) const TARGET: &str = env!("OMNI_TARGET");

/// The flags of a CPU that decide which code runs, here and in what is compared.
const FLAGS: [&str; 11] = [
    "ssse3",
    "avx",
    "avx2",
    "bmi2",
    "adx",
    "vaes",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512ifma",
    "avx512vbmi",
];

/// The machine, and what ran on it. What the system does not tell is `None`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Disclosure {
    omni: &'static str,
    compiler: &'static str,
    target: &'static str,
    /// Built with optimisation and without debug assertions.
    optimised: bool,
    cpu: Cpu,
    /// Logical CPUs that this process may use.
    cpus: usize,
    threads_per_core: Option<usize>,
    /// Octets.
    memory: Option<u64>,
    kernel: Option<String>,
    /// The hypervisor's name, as far as it gives one; `None` on bare metal.
    virtualised: Option<String>,
    /// Of vulnerabilities of this CPU, what the kernel does against each.
    mitigations: BTreeMap<String, String>,
    governor: Option<String>,
    clocksource: Option<String>,
    /// Processes that ran or wanted to, in the minute before: near 0 on a quiet machine.
    load: Option<f64>,
}

/// The first CPU, which stands for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Cpu {
    model: Option<String>,
    /// Family, model and stepping: what a name that a hypervisor gives leaves out.
    signature: Option<String>,
    /// Of [`FLAGS`], those that it has.
    flags: Vec<&'static str>,
    under_hypervisor: bool,
}

impl Disclosure {
    /// Asks the system.
    pub(crate) fn take() -> Self {
        let cpu = read_cpu(&read("/proc/cpuinfo").unwrap_or_default());
        let memory = read("/proc/meminfo").and_then(|text| memory(&text));
        let load = read("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok());
        let siblings = read("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list");
        Self {
            omni: env!("CARGO_PKG_VERSION"),
            compiler: COMPILER,
            target: TARGET,
            optimised: !cfg!(debug_assertions),
            cpus: available_parallelism().map_or(1, usize::from),
            threads_per_core: siblings.and_then(|list| count(&list)),
            memory,
            kernel: read("/proc/sys/kernel/osrelease"),
            virtualised: cpu.under_hypervisor.then(hypervisor),
            cpu,
            mitigations: mitigations(Path::new("/sys/devices/system/cpu/vulnerabilities")),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            clocksource: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            load,
        }
    }
}

impl fmt::Display for Disclosure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = || "unknown".to_owned();
        let cpu = self.cpu.model.clone().unwrap_or_else(unknown);
        let signature = self.cpu.signature.clone().unwrap_or_else(unknown);
        let threads = self.threads_per_core;
        let threads = threads.map_or_else(unknown, |threads| threads.to_string());
        let gib = |octets: u64| format!("{:.1} GiB", octets as f64 / f64::from(1 << 30));
        let line =
            |f: &mut fmt::Formatter<'_>, name: &str, text: &str| writeln!(f, "  {name:<12} {text}");
        writeln!(f, "measured on")?;
        line(f, "cpu", &format!("{cpu}, {signature}"))?;
        line(f, "", &self.cpu.flags.join(" "))?;
        let cpus = format!("{} usable, threads a core: {threads}", self.cpus);
        line(f, "cpus", &cpus)?;
        line(f, "memory", &self.memory.map_or_else(unknown, gib))?;
        let host = self.virtualised.as_deref().unwrap_or("bare metal");
        line(f, "machine", host)?;
        line(f, "kernel", &self.kernel.clone().unwrap_or_else(unknown))?;
        for (vulnerability, done) in &self.mitigations {
            line(f, "", &format!("{vulnerability}: {done}"))?;
        }
        let governor = self.governor.clone().unwrap_or_else(|| "none".to_owned());
        line(f, "governor", &governor)?;
        line(
            f,
            "clock",
            &self.clocksource.clone().unwrap_or_else(unknown),
        )?;
        let load = self.load.map_or_else(unknown, |load| load.to_string());
        line(f, "load before", &load)?;
        let optimised = if self.optimised {
            ""
        } else {
            ", NOT OPTIMISED"
        };
        let built = format!(
            "{} by {} for {}{optimised}",
            self.omni, self.compiler, self.target
        );
        line(f, "omni", &built)
    }
}

/// A file's text without its last newline, if it is there.
fn read(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim_end().to_owned())
}

/// The first CPU of `/proc/cpuinfo`.
fn read_cpu(text: &str) -> Cpu {
    let first = text.split("\n\n").next().unwrap_or_default();
    let fields: BTreeMap<&str, &str> = first
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim(), value.trim()))
        .collect();
    let signature = ["cpu family", "model", "stepping"].map(|name| fields.get(name));
    let has: Vec<&str> = fields
        .get("flags")
        .map(|flags| flags.split(' ').collect())
        .unwrap_or_default();
    let flags = FLAGS.into_iter().filter(|flag| has.contains(flag));
    Cpu {
        model: fields.get("model name").map(|&name| name.to_owned()),
        signature: match signature {
            [Some(family), Some(model), Some(stepping)] => Some(format!(
                "family {family}, model {model}, stepping {stepping}"
            )),
            _ => None,
        },
        flags: flags.collect(),
        under_hypervisor: has.contains(&"hypervisor"),
    }
}

/// Octets of memory, from `/proc/meminfo`.
fn memory(text: &str) -> Option<u64> {
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

/// How many CPUs a list such as `0-3,8` names.
fn count(list: &str) -> Option<usize> {
    let ranges = list.split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        (last.checked_sub(first)?).checked_add(1)
    });
    ranges.sum()
}

/// What the hypervisor calls itself.
fn hypervisor() -> String {
    let names = [
        "/sys/hypervisor/type",
        "/sys/class/dmi/id/sys_vendor",
        "/sys/class/dmi/id/product_name",
    ];
    let names: Vec<String> = names.iter().filter_map(|path| read(path)).collect();
    if names.is_empty() {
        return "virtual, of no name".to_owned();
    }
    format!("virtual: {}", names.join(", "))
}

/// What the kernel does against each vulnerability that this CPU has.
fn mitigations(folder: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let all = files.filter_map(|file| {
        let done = read(file.path().to_str()?)?;
        Some((file.file_name().into_string().ok()?, done))
    });
    all.filter(|(_, done)| done != "Not affected").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cpu_tells_what_matters() {
        let text = "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 207\nmodel name\t: Some CPU\n\
                    stepping\t: 2\nflags\t\t: fpu avx2 hypervisor avx512f avx2x\n\n\
                    processor\t: 1\nmodel name\t: Another\n";
        let expected = Cpu {
            model: Some("Some CPU".to_owned()),
            signature: Some("family 6, model 207, stepping 2".to_owned()),
            flags: vec!["avx2", "avx512f"],
            under_hypervisor: true,
        };
        assert_eq!(read_cpu(text), expected);
        assert_eq!(read_cpu(""), Cpu::default());
    }

    #[test]
    fn memory_and_lists_of_cpus() {
        let text = "MemTotal:        8151000 kB\nMemFree: 1 kB\n";
        assert_eq!(memory(text), Some(8_151_000 * 1024));
        assert_eq!(memory("MemFree: 1 kB\n"), None);
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("0-3,8"), Some(5));
        assert_eq!(count("3-0"), None);
        assert_eq!(count("x"), None);
    }

    #[test]
    fn what_is_disclosed_is_said_in_both_forms() {
        let taken = Disclosure::take();
        let text = taken.to_string();
        let json = serde_json::to_value(&taken).expect("plain values");
        assert!(text.contains(COMPILER) && text.contains(TARGET), "{text}");
        assert_eq!(json["compiler"], COMPILER);
        assert!(json["cpus"].as_u64().is_some_and(|cpus| cpus > 0));
        assert_eq!(text.contains("NOT OPTIMISED"), cfg!(debug_assertions));
    }
}
