//! Every metric of an engine. `docs/metrics.md` has a row for each.

use omni_control::service::metrics::{Desc, Kind};

/// One table entry, and the constant by which it is meant.
macro_rules! metrics {
    ($($id:ident $kind:ident $name:literal [$($label:literal),*] $help:literal)*) => {
        $(pub(super) static $id: Desc = Desc {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// All of them.
        pub static ALL: &[&Desc] = &[$(&$id),*];
    };
}

metrics! {
    BUILD Info "omni_build_info" ["version"] "The engine."
    NODE Info "omni_node_info" ["node", "fabric", "public_key"] "Who the node is."
    UPTIME Gauge "omni_uptime_seconds" [] "Since the engine started."
    LOG_LEFT_OUT Counter "omni_log_left_out_total" []
        "Lines of the log left out, as there were too many of one kind."

    PORT_FRAMES Counter "omni_port_frames_total" ["port", "queue", "direction"]
        "Frames received (rx) and sent (tx) by a queue of a port; of the underlay, encrypted ones."
    PORT_BYTES Counter "omni_port_bytes_total" ["port", "queue", "direction"]
        "Their octets, from the outermost MAC address on."
    PORT_WAITING Gauge "omni_port_waiting_frames" ["port", "queue"]
        "Buffers that wait for the kernel to take and send them."
    PORT_STALLS Counter "omni_port_stalls_total" ["port", "queue"]
        "Times that a queue stood still. What a port did not receive counts on its first queue."
    PORT_INFO Info "omni_port_info" ["port", "queue", "worker", "mode", "copy"]
        "How a queue is served: by which worker, by what, and whether frames are copied."

    PEER_INFO Info "omni_peer_info" ["peer", "public_key"]
        "Who a peer is. The label peer is its name; where two have one, with their keys."
    PEER_UP Gauge "omni_peer_up" ["peer"] "1 while there is a session with the peer."
    PEER_AGE Gauge "omni_peer_handshake_age_seconds" ["peer"]
        "Since the last handshake with the peer; none before the first."
    PEER_FRAMES Counter "omni_peer_frames_total" ["peer", "direction"]
        "Frames of hosts that came from the peer and verified (rx), or were sent to it (tx)."
    PEER_BYTES Counter "omni_peer_bytes_total" ["peer", "direction"] "Their octets."
    PEER_LIMIT Gauge "omni_peer_frame_limit_bytes" ["peer"]
        "The longest frame that the way to the peer is known to carry (path MTU); none before."
    PEER_THROTTLED Gauge "omni_peer_throttled" ["peer"]
        "1 while most of what the peer sends is dropped in the driver, as most was refused."
    PEER_MACS Gauge "omni_peer_macs" ["peer"] "MAC addresses learned behind the peer."
    PEERS Gauge "omni_peers" ["state"]
        "Peers by session: idle, handshaking or established."

    INITIATIONS Counter "omni_handshake_initiations_total" [] "Handshakes begun, repeats included."
    SESSIONS Counter "omni_handshakes_total" ["role"]
        "Handshakes that led to a session, begun here (initiator) or by the peer (responder)."
    REKEYS Counter "omni_rekeys_total" []
        "Of those, the ones that replaced a session that there was."
    ABANDONED Counter "omni_handshakes_abandoned_total" []
        "Handshakes given up, as the peer did not answer for long."

    DROPS Counter "omni_drops_total" ["reason"]
        "Frames and messages that were discarded, by reason."

    FDB Gauge "omni_fdb_entries" ["side"]
        "MAC addresses learned behind ports (local) and peers (peers), and those set (static)."
    FDB_LIMIT Gauge "omni_fdb_entries_limit" ["side"] "The most that there may be."
    NEIGHBORS Gauge "omni_neighbor_entries" ["side"]
        "Bindings of IP to MAC addresses, likewise."
    NEIGHBORS_LIMIT Gauge "omni_neighbor_entries_limit" ["side"] "The most that there may be."
    GROUPS Gauge "omni_multicast_groups" [] "Multicast groups that somebody wants."
    FROZEN Gauge "omni_frozen_addresses" []
        "MAC addresses that moved too often, and stay where they are for a while."
    FROZEN_TOTAL Counter "omni_frozen_addresses_total" [] "Times that one was frozen."
    MOVES Counter "omni_moves_total" [] "MAC addresses that went from one owner to another."
    CLAIMS_SENT Counter "omni_claims_sent_total" []
        "Times that a peer was asked to let go of an address."
    CLAIMS_REFUSED Counter "omni_claims_refused_total" []
        "Claims and releases that were not followed."
    EVICTED Counter "omni_evicted_total" [] "Addresses and bindings that made room for others."
    BINDINGS_REFUSED Counter "omni_bindings_refused_total" [] "Bindings refused."
    GROUPS_REFUSED Counter "omni_groups_refused_total" [] "Group memberships refused."
    RECORDS_LIMITED Counter "omni_records_limited_total" []
        "Control records, and entries of them, beyond what a peer may send."
    RECORDS_MALFORMED Counter "omni_records_malformed_total" [] "Control records that were none."
    SENDS_LEFT_OUT Counter "omni_sends_left_out_total" []
        "Questions to hosts, and repeats to peers, left out as too many waited."

    ANSWERED Counter "omni_suppression_answered_total" ["protocol"]
        "Questions for addresses (arp, nd) that were answered here, and went no further."
    UNKNOWN Counter "omni_suppression_unknown_total" ["protocol"]
        "Questions for addresses of which nothing is known; they went on."
    STALE Counter "omni_suppression_stale_total" []
        "Addresses that changed within a minute of being given as an answer."
    TOO_BIG Counter "omni_too_big_answered_total" []
        "Hosts told by ICMP that their packets do not fit."

    UMEM Gauge "omni_umem_frames" ["worker", "place"]
        "Frames of packet memory: in the pool (free), with the kernel to be filled (receiving) or \
         sent (sending), in the worker's hands (held)."
    UMEM_SIZE Gauge "omni_umem_size_frames" ["worker"] "All of them."
    STAGED Gauge "omni_staged_frames" ["worker"] "Frames that wait for a session: held ones."
    TURNS Counter "omni_worker_turns_total" ["worker", "outcome"]
        "Turns of a worker's loop with something to do (busy) and with nothing (idle)."
    BURSTS Counter "omni_worker_bursts_total" ["worker", "side"]
        "Bursts taken from the underlay and from the access ports."
    SLEEPS Counter "omni_worker_sleeps_total" ["worker"] "Times that a worker slept."
    WORKER_STALLS Counter "omni_worker_stalls_total" []
        "Times that a worker did not come round for two seconds."
    QUEUE_STALLS Counter "omni_queue_stalls_total" []
        "Times that a queue stood still for two seconds."
    REOPENED Counter "omni_reopened_total" []
        "Times that all sockets and the packet memory were made anew."
    REATTACHED Counter "omni_reattached_total" [] "Times that an XDP program was attached again."
    UNSOUND Counter "omni_unsound_total" []
        "Times that frames of the packet memory did not add up: a defect."

    WAIT Histogram "omni_stage_wait_seconds" ["port", "queue"]
        "From the driver's stamp to the worker's turn. Empty for taps and UDP sockets."
    THROUGH Histogram "omni_stage_through_seconds" ["port", "queue"]
        "From that stamp, or from when the frame was read where there is none, until it was sent."
    WORK Histogram "omni_stage_work_seconds" ["worker"]
        "From the beginning of a turn until its frames were ready to be sent."
    SEND Histogram "omni_stage_send_seconds" ["worker"]
        "From there until they were in the transmit rings and the system calls had returned."

    NUCLEUS_UP Gauge "omni_rendezvous_connected" ["nucleus"]
        "1 while the node is connected to a Nucleus."
    NUCLEUS_REGISTERED Gauge "omni_rendezvous_registered" ["nucleus"]
        "1 while the Nucleus has the node's registration."
    NUCLEUS_COMPLETE Gauge "omni_rendezvous_complete" ["nucleus"]
        "1 once the Nucleus told all that it knows."
    NUCLEUS_REVISION Gauge "omni_rendezvous_revision" ["nucleus"]
        "Up to which revision of its list."
    NUCLEUS_AGE Gauge "omni_rendezvous_heard_age_seconds" ["nucleus"]
        "Since the Nucleus last said anything; none before it did."
    NUCLEUS_DOUBTED Counter "omni_rendezvous_not_believed_total" ["nucleus"]
        "What the Nucleus said and was not believed."
}
