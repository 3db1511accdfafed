/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the steering programs and their loader agree on: limits, layouts, counters.
 *
 * src/layout.rs repeats these values for Rust; a test there compares the two, so a change here
 * that is not made there does not pass.
 */
#ifndef OMNI_REDIRECT_H
#define OMNI_REDIRECT_H

#include <linux/types.h>

/* Receive queues that one program can serve: the size of the socket map. */
#define OMNI_MAX_QUEUES 64

/* Addresses of the underlay interface: the size of the address map. */
#define OMNI_MAX_LOCAL_ADDRS 256

/*
 * Octets that may be made free before a frame. The kernel leaves 256 (XDP_PACKET_HEADROOM),
 * of which its own frame record takes up to 64 and the metadata below 16.
 */
#define OMNI_MAX_ROOM 128

/* Octets of metadata before a frame: a multiple of four, at most 32 (bpf_xdp_adjust_meta). */
#define OMNI_META_LEN 16

/* Octets of a session's number, the first field of every message. */
#define OMNI_SESSION_ID_LEN 4

/* What user space can change while the programs run. */
struct omni_settings {
	__be16 port;	/* UDP port of the fabric, as on the wire; 0 steers nothing */
	__u16 room;	/* octets to make free before each frame from an access port */
	__u32 reserved;	/* zero */
};

/* An address of this host; IPv4 in its mapped form, ::ffff:a.b.c.d (RFC 4291 s.2.5.5.2). */
struct omni_addr {
	__be32 word[4];
};

/* Stands right before the first octet of every frame handed to a socket; host byte order. */
struct omni_meta {
	__u64 stamp_ns;	/* when the driver handed the frame over, CLOCK_MONOTONIC */
	__u16 room;	/* octets made free before the frame, counted in the frame's length */
	__u16 flags;	/* none defined: zero */
	__u32 rx_queue;	/* receive queue that the frame came in on */
};

_Static_assert(sizeof(struct omni_settings) == 8, "settings are 8 octets");
_Static_assert(sizeof(struct omni_addr) == 16, "an address is 16 octets");
_Static_assert(sizeof(struct omni_meta) == OMNI_META_LEN, "metadata is 16 octets");

/* Places in the counter map. */
enum omni_counter {
	OMNI_STEERED = 0,	/* frames handed to a socket */
	OMNI_NO_SOCKET = 1,	/* frames dropped: no socket serves their receive queue */
	OMNI_NO_HEADROOM = 2,	/* frames dropped: no room for headers or metadata */
	OMNI_COUNTERS = 3,
};

#endif /* OMNI_REDIRECT_H */
