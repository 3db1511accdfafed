// SPDX-License-Identifier: Apache-2.0
/*
 * Hands the fabric's traffic over to an engine behind another device, and takes back what it says.
 *
 *                        omni_handover
 *   wire ==== interface ------------------> device ==== engine
 *                 |      <------------------
 *               host         omni_return
 *
 *   omni_handover   on the interface to the wire. What is for an address of the map goes to the
 *                   device: of an address that the host has as well, the fabric's datagrams; of
 *                   one that is the engine's alone, everything, and who asks where it is (ARP,
 *                   neighbour solicitations). All else continues to the kernel, untouched
 *   omni_return     on the device: every frame goes out to the wire
 *
 * No frame is changed. A device that is gone has no entry in the map: the host gets its frames.
 */
#include <linux/bpf.h>
#include <linux/icmpv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "message.h"
#include "omni_handover.h"
#include "omni_redirect.h"

#define ND_SOLICITATION 135 /* RFC 4861 s.4.3 */

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, OMNI_MAX_LOCAL_ADDRS);
	__type(key, struct omni_addr);
	__type(value, __u8);
} addrs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct omni_settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, OMNI_HANDOVER_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* An ARP message for IPv4 over Ethernet (RFC 826). */
struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender_ip[4];
	__u8 target_mac[ETH_ALEN];
	__be16 target_ip[2];	/* not at a multiple of four octets */
};

_Static_assert(sizeof(struct arp) == 28, "an ARP message is 28 octets");

/* A neighbour solicitation behind its IPv6 header. */
struct solicitation {
	struct icmp6hdr head;
	struct in6_addr target;
};

static __always_inline void count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &which);

	if (value)
		*value += 1;
}

static __always_inline bool read_arp_target(struct cursor rest, struct omni_addr *addr)
{
	struct arp *arp;

	if (!take(&rest, sizeof(*arp), (void **)&arp) ||
	    arp->protocol != bpf_htons(ETH_P_IP) || arp->hardware_len != ETH_ALEN ||
	    arp->protocol_len != 4)
		return false;
	addr->word[2] = bpf_htonl(0xffff);
	__builtin_memcpy(&addr->word[3], arp->target_ip, sizeof(arp->target_ip));
	return true;
}

static __always_inline bool read_ipv4_target(struct cursor rest, struct omni_addr *addr)
{
	struct iphdr *ip;

	if (!take(&rest, sizeof(*ip), (void **)&ip) || ip->version != 4)
		return false;
	addr->word[2] = bpf_htonl(0xffff);
	addr->word[3] = ip->daddr;
	return true;
}

/* Of a neighbour solicitation, which goes to a group, the target is whom it asks for. */
static __always_inline bool read_ipv6_target(struct cursor rest, struct omni_addr *addr)
{
	struct solicitation *asked;
	struct ipv6hdr *ip;

	if (!take(&rest, sizeof(*ip), (void **)&ip) || ip->version != 6)
		return false;
	__builtin_memcpy(addr, &ip->daddr, sizeof(*addr));
	if (ip->daddr.s6_addr[0] == 0xff && ip->nexthdr == IPPROTO_ICMPV6 &&
	    take(&rest, sizeof(*asked), (void **)&asked) &&
	    asked->head.icmp6_type == ND_SOLICITATION)
		__builtin_memcpy(addr, &asked->target, sizeof(*addr));
	/* A mapped address on the wire is nobody's, and must not match our IPv4 address. */
	return addr->word[0] || addr->word[1] || addr->word[2] != bpf_htonl(0xffff);
}

/* The address that a frame is for, or asks or tells about. */
static __always_inline bool read_target(struct cursor rest, struct omni_addr *addr)
{
	switch (take_ethernet(&rest)) {
	case bpf_htons(ETH_P_ARP):
		return read_arp_target(rest, addr);
	case bpf_htons(ETH_P_IP):
		return read_ipv4_target(rest, addr);
	case bpf_htons(ETH_P_IPV6):
		return read_ipv6_target(rest, addr);
	default:
		return false;
	}
}

/* Sends a frame to a device, or leaves it to the host when there is none. */
static __always_inline int redirect(__u32 device, __u32 counter)
{
	int verdict = bpf_redirect_map(&devices, device, XDP_PASS);

	count(verdict == XDP_REDIRECT ? counter : OMNI_NO_DEVICE);
	return verdict;
}

OMNI_SECTION
int omni_handover(struct xdp_md *ctx)
{
	struct cursor frame = { (void *)(long)ctx->data, (void *)(long)ctx->data_end };
	struct destination to = {};
	struct omni_addr addr = {};
	struct omni_settings *now;
	__u32 only = 0;
	__u8 *whose;

	if (!read_target(frame, &addr))
		return XDP_PASS;
	whose = bpf_map_lookup_elem(&addrs, &addr);
	now = bpf_map_lookup_elem(&settings, &only);
	if (!whose || !now)
		return XDP_PASS;
	if (read_destination(frame, &to) && to.port == now->port)
		return redirect(OMNI_TO_OTHER,
				to.session_id ? OMNI_HANDED_DATA : OMNI_HANDED_HANDSHAKES);
	return *whose == OMNI_WHOLE ? redirect(OMNI_TO_OTHER, OMNI_HANDED_REST) : XDP_PASS;
}

OMNI_SECTION
int omni_return(struct xdp_md *ctx)
{
	(void)ctx;
	return redirect(OMNI_TO_WIRE, OMNI_HANDED_BACK);
}

/* No helper used here is reserved for programs under the GPL. */
char _license[] SEC("license") = "Apache-2.0";
