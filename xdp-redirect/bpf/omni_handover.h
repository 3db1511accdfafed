/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the hand-over programs and their loader agree on, beyond omni_redirect.h. src/layout.rs
 * repeats it for Rust, and bpf/layout.c lists it for the test that compares the two.
 */
#ifndef OMNI_HANDOVER_H
#define OMNI_HANDOVER_H

/* Whose an address is: the values of the address map. */
#define OMNI_SHARED 1	/* the host's as well: the fabric's datagrams to it are handed over */
#define OMNI_WHOLE 2	/* the other engine's alone: all that is for it is handed over */

/* Places in the map of devices. */
#define OMNI_TO_OTHER 0	/* the device behind which the engine is */
#define OMNI_TO_WIRE 1	/* the interface that frames come in on */

/* Places in the counter map. */
enum omni_handover_counter {
	OMNI_HANDED_DATA = 0,	/* datagrams of the fabric with a session */
	OMNI_HANDED_HANDSHAKES = 1,	/* the same without a session */
	OMNI_HANDED_REST = 2,	/* what else is for an address of the engine alone */
	OMNI_HANDED_BACK = 3,	/* frames from the device, sent to the wire */
	OMNI_NO_DEVICE = 4,	/* frames left to the host: the other device is gone */
	OMNI_HANDOVER_COUNTERS = 5,
};

#endif /* OMNI_HANDOVER_H */
