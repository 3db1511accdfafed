//! Attachments: made as links, refused with a reason, gone with the process.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, process};

use omni_xdp_redirect::{BUSY_RETRY, Kind, Mode, Redirect, RedirectError};

use crate::support::netns::{in_namespace, ip, ip_ok, make_veth, wait_until};
use crate::support::root::require_root;

/// Tells a second run of this test program what to do.
const ROLE: &str = "OMNI_XDP_TEST_ROLE";

/// Capabilities by number: include/uapi/linux/capability.h.
const CAP_NET_ADMIN: libc::c_ulong = 12;
const CAP_BPF: libc::c_ulong = 39;
const CAP_LAST: libc::c_ulong = 63;

/// What `ip` says about XDP on an interface: its mode, or nothing.
fn attached_mode(interface: &str) -> Option<&'static str> {
    let shown = ip_ok(&format!("-details link show dev {interface}"));
    if shown.contains(" xdpgeneric ") {
        return Some("generic");
    }
    shown.contains(" xdp ").then_some("native")
}

/// Closing a link is what ends it, and a process that another test starts just then holds a copy
/// of the descriptor until its `execve`: so "gone" is waited for.
fn wait_until_free(interface: &str, after: &str) {
    wait_until(after, || attached_mode(interface).is_none());
}

/// This test program once more, as a process that plays `role`.
fn second_process(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([
        "--exact",
        "attach::plays_a_role",
        "--ignored",
        "--nocapture",
    ]);
    command.env(ROLE, role).stdout(Stdio::piped());
    command
}

/// Leaves a process these capabilities and no others, as a service manager would.
fn restrict(command: &mut Command, kept: &'static [libc::c_ulong]) {
    let drop_others = move || {
        for capability in (0..=CAP_LAST).filter(|capability| !kept.contains(capability)) {
            // SAFETY: changes what this process may gain at execve, and no memory.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
        Ok(())
    };
    // SAFETY: between fork and execve the closure only calls prctl and allocates nothing.
    unsafe { command.pre_exec(drop_others) };
}

/// Waits for a process to print a line with `word`; all that it printed until then.
fn wait_for_line(child: &mut Child, word: &str) -> String {
    let mut printed = String::new();
    let output = child.stdout.take().expect("its output is piped");
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        printed.push_str(&line);
        printed.push('\n');
        if line.contains(word) {
            return printed;
        }
    }
    panic!("the second process ended without {word}:\n{printed}");
}

#[test]
#[ignore = "the part of the second process, which other tests start"]
fn plays_a_role() {
    match env::var(ROLE).as_deref() {
        Ok("hold") => {
            let mut program = Redirect::load(Kind::Access).unwrap();
            program.attach("near", Mode::Native).unwrap();
            println!("attached");
            // Its parent kills it long before.
            sleep(Duration::from_secs(60));
        }
        Ok("try") => match try_everything() {
            Ok(()) => println!("outcome: served"),
            Err(refusal) => println!("outcome: {refusal}"),
        },
        role => panic!("no such role: {role:?}"),
    }
    process::exit(0);
}

fn try_everything() -> Result<(), RedirectError> {
    for kind in [Kind::Underlay, Kind::Access] {
        let mut program = Redirect::load(kind)?;
        program.set_port(51820)?;
        program.set_room(74)?;
        program.add_local([192, 0, 2, 1].into())?;
        program.attach("near", Mode::Native)?;
        program.counters()?;
    }
    Ok(())
}

#[test]
fn an_attachment_is_seen_and_ends_with_its_owner() {
    in_namespace(|| {
        make_veth("near", "far", 1);
        for kind in [Kind::Underlay, Kind::Access] {
            for (mode, shown) in [(Mode::Native, "native"), (Mode::Generic, "generic")] {
                let mut program = Redirect::load(kind).unwrap();
                assert_eq!(attached_mode("near"), None);
                program.attach("near", mode).unwrap();
                assert!(program.is_attached());
                assert_eq!(attached_mode("near"), Some(shown), "{kind:?}");
                program.detach();
                assert!(!program.is_attached());
                wait_until_free("near", "detached");
                program.attach("near", mode).unwrap();
                drop(program);
                wait_until_free("near", "dropped");
            }
        }
    });
}

/// Links cannot be taken off by others, attachments by netlink can.
#[test]
fn an_attachment_is_a_link() {
    in_namespace(|| {
        make_veth("near", "far", 1);
        for (mode, word) in [(Mode::Native, "xdpdrv"), (Mode::Generic, "xdpgeneric")] {
            let mut program = Redirect::load(Kind::Access).unwrap();
            program.attach("near", mode).unwrap();
            let taken_off = ip(&format!("link set dev near {word} off"));
            assert!(
                !taken_off.status.success(),
                "{mode}: ip took the program off"
            );
            assert!(attached_mode("near").is_some(), "{mode}");
        }
    });
}

#[test]
fn an_attachment_moves_to_where_it_is_attached_next() {
    in_namespace(|| {
        make_veth("near", "far", 1);
        let mut program = Redirect::load(Kind::Access).unwrap();
        program.attach("near", Mode::Native).unwrap();
        program.attach("far", Mode::Generic).unwrap();
        wait_until_free("near", "moved away");
        assert_eq!(attached_mode("far"), Some("generic"));
    });
}

#[test]
fn an_interface_made_anew_can_be_attached_again() {
    in_namespace(|| {
        let mut program = Redirect::load(Kind::Access).unwrap();
        for _ in 0..2 {
            make_veth("near", "far", 1);
            program.attach("near", Mode::Native).unwrap();
            assert_eq!(attached_mode("near"), Some("native"));
            ip_ok("link del dev near");
        }
    });
}

#[test]
fn an_attachment_ends_when_its_process_is_killed() {
    in_namespace(|| {
        make_veth("near", "far", 1);
        let mut holder = second_process("hold").spawn().unwrap();
        wait_for_line(&mut holder, "attached");
        assert_eq!(attached_mode("near"), Some("native"));
        // The successor starts before the kernel has cleaned up, and waits for that.
        holder.kill().unwrap();
        let mut successor = Redirect::load(Kind::Access).unwrap();
        successor.attach("near", Mode::Native).unwrap();
        holder.wait().unwrap();
        drop(successor);
        wait_until_free("near", "killed and dropped");
    });
}

#[test]
fn an_occupied_interface_is_waited_for_and_then_refused() {
    in_namespace(|| {
        make_veth("near", "far", 1);
        let mut holder = Redirect::load(Kind::Access).unwrap();
        holder.attach("near", Mode::Native).unwrap();
        for mode in [Mode::Native, Mode::Generic] {
            let mut second = Redirect::load(Kind::Underlay).unwrap();
            let start = Instant::now();
            let refused = second.attach("near", mode).unwrap_err();
            let waited = start.elapsed();
            assert!(
                matches!(refused, RedirectError::Occupied { .. }),
                "{mode}: {refused}"
            );
            assert!(refused.to_string().contains("near"), "{refused}");
            assert!(waited >= BUSY_RETRY, "{mode}: gave up after {waited:?}");
            assert!(
                waited < BUSY_RETRY + Duration::from_secs(2),
                "{mode}: took {waited:?}"
            );
            assert!(!second.is_attached());
        }
        assert_eq!(attached_mode("near"), Some("native"));
    });
}

#[test]
fn refusals_name_the_interface_and_what_helps() {
    in_namespace(|| {
        let mut program = Redirect::load(Kind::Access).unwrap();
        for (name, words) in [
            ("nowhere", "nowhere does not exist"),
            ("", "does not exist"),
            ("name-longer-than-15", "does not exist"),
            ("nul\0inside", "does not exist"),
            (
                "lo",
                "lo: its driver cannot run this program in native mode; use `xdp: generic`",
            ),
        ] {
            let refused = program.attach(name, Mode::Native).unwrap_err().to_string();
            assert!(refused.contains(words), "{name:?}: {refused}");
            assert!(!program.is_attached(), "{name:?}");
        }
        program.attach("lo", Mode::Generic).unwrap();
        assert_eq!(attached_mode("lo"), Some("generic"));

        ip_ok("link add narrow numrxqueues 1 numtxqueues 1 type veth peer name wide numtxqueues 4");
        let refused = program
            .attach("narrow", Mode::Native)
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("narrow: too few receive queues"),
            "{refused}"
        );
    });
}

#[test]
fn jumbo_frames_do_not_stand_in_the_way() {
    in_namespace(|| {
        make_veth("near", "far", 1);
        ip_ok("link set dev near mtu 9000");
        ip_ok("link set dev far mtu 9000");
        let mut program = Redirect::load(Kind::Access).unwrap();
        program.attach("near", Mode::Native).unwrap();
        assert_eq!(attached_mode("near"), Some("native"));
    });
}

/// Lets a second process load and attach both programs; what came of it.
fn outcome_with(kept: &'static [libc::c_ulong]) -> String {
    let mut command = second_process("try");
    restrict(&mut command, kept);
    let mut child = command.spawn().unwrap();
    let printed = wait_for_line(&mut child, "outcome: ");
    child.wait().unwrap();
    printed
}

/// The verifier is stricter with a process that may not see kernel addresses (CAP_PERFMON).
#[test]
fn cap_bpf_and_cap_net_admin_are_all_it_takes() {
    in_namespace(|| {
        make_veth("near", "far", 1);
        let outcome = outcome_with(&[CAP_BPF, CAP_NET_ADMIN]);
        assert!(outcome.contains("outcome: served"), "{outcome}");
    });
}

#[test]
fn a_lack_of_privilege_is_named_with_the_capabilities_that_help() {
    require_root();
    in_namespace(|| {
        make_veth("near", "far", 1);
        for kept in [&[][..], &[CAP_BPF], &[CAP_NET_ADMIN]] {
            let outcome = outcome_with(kept);
            let named = outcome.contains("permission denied; run as root or with CAP_BPF");
            assert!(named, "with {kept:?}: {outcome}");
        }
    });
}
