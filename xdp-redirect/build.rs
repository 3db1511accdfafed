//! Compiles the XDP programs with clang, and says plainly what is missing when it cannot.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const SOURCE: &str = "bpf/omni_redirect.bpf.c";
const HANDOVER: &str = "bpf/omni_handover.bpf.c";
const LAYOUT: &str = "bpf/layout.c";
const HEADERS: [&str; 3] = [
    "bpf/omni_redirect.h",
    "bpf/omni_handover.h",
    "bpf/message.h",
];

/// What is made of which source, and how. The steering programs twice: for kernels that know frames
/// of several buffers, and for older ones. And the headers' layout as text, for a test.
const OUTPUTS: [(&str, &str, &[&str]); 4] = [
    (SOURCE, "omni_redirect.o", &["-c"]),
    (
        SOURCE,
        "omni_redirect_linear.o",
        &["-c", "-DOMNI_LINEAR_ONLY"],
    ),
    (HANDOVER, "omni_handover.o", &["-c"]),
    (LAYOUT, "layout.s", &["-S"]),
];

fn main() -> ExitCode {
    for input in ["build.rs", SOURCE, HANDOVER, LAYOUT]
        .into_iter()
        .chain(HEADERS)
    {
        println!("cargo::rerun-if-changed={input}");
    }
    println!("cargo::rerun-if-env-changed=CLANG");
    for (source, output, options) in OUTPUTS {
        if let Err(reason) = compile(source, output, options) {
            for line in reason.lines() {
                println!("cargo::error={line}");
            }
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn compile(source: &str, output: &str, options: &[&str]) -> Result<(), String> {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let directory = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let run = Command::new(&clang)
        .args([
            "-O2",
            "-g",
            "-mcpu=v2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-target",
            bpf_target()?,
        ])
        // Build paths in the debug information would make the same source differ by place.
        .arg(format!("-ffile-prefix-map={}=.", directory.display()))
        .args(
            multiarch_include()?
                .iter()
                .flat_map(|path| [Path::new("-isystem"), path]),
        )
        .args(options)
        .arg(directory.join(source))
        .arg("-o")
        .arg(Path::new(&variable("OUT_DIR")?).join(output))
        .output()
        .map_err(|error| missing_clang(&clang, &error))?;
    if run.status.success() {
        return Ok(());
    }
    Err(explain(&clang, &String::from_utf8_lossy(&run.stderr)))
}

/// XDP programs run in the byte order of the machine that the engine is built for.
fn bpf_target() -> Result<&'static str, String> {
    let little = variable("CARGO_CFG_TARGET_ENDIAN")? == "little";
    Ok(if little { "bpfel" } else { "bpfeb" })
}

/// Debian and Ubuntu keep `asm/types.h` in a directory named for the architecture, which clang
/// searches only when it builds for that architecture; others have it in `/usr/include` itself.
fn multiarch_include() -> Result<Option<PathBuf>, String> {
    let build_machine = variable("HOST")?;
    let architecture = build_machine.split('-').next().unwrap_or_default();
    let found = [architecture, &variable("CARGO_CFG_TARGET_ARCH")?]
        .into_iter()
        .flat_map(multiarch_names)
        .map(|name| Path::new("/usr/include").join(name))
        .find(|path| path.join("asm/types.h").exists());
    Ok(found)
}

/// Debian's names for a Rust architecture.
fn multiarch_names(architecture: &str) -> Vec<String> {
    let name = match architecture {
        "i586" | "i686" | "x86" => "i386",
        "powerpc64le" => "powerpc64le",
        "riscv64gc" => "riscv64",
        other if other.starts_with("armv7") => "arm",
        other => other,
    };
    ["linux-gnu", "linux-gnueabihf", "linux-gnuabi64"]
        .iter()
        .map(|system| format!("{name}-{system}"))
        .collect()
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}

fn missing_clang(clang: &str, error: &std::io::Error) -> String {
    format!(
        "cannot run `{clang}`, which compiles the XDP programs: {error}\n\
         install it (Debian, Ubuntu: apt install clang libbpf-dev), or name another in CLANG"
    )
}

/// clang's own words, after the package that most likely is missing.
fn explain(clang: &str, stderr: &str) -> String {
    let remedy = if stderr.contains("'bpf/") {
        "libbpf's headers are missing (Debian, Ubuntu: apt install libbpf-dev)"
    } else if stderr.contains("file not found") {
        "the kernel's headers for programs are missing (Debian, Ubuntu: apt install linux-libc-dev)"
    } else if stderr.contains("bpfel") || stderr.contains("bpfeb") {
        "this clang cannot build for BPF (Debian, Ubuntu: apt install clang)"
    } else {
        "the XDP programs do not compile"
    };
    format!("{remedy}; `{clang}` says:\n{stderr}")
}
