/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds a message of the fabric in a frame: what the programs have in common.
 *
 * Headers are read from the linear part of a frame. Where a driver splits a frame before the end
 * of its headers, no message is found.
 */
#ifndef OMNI_MESSAGE_H
#define OMNI_MESSAGE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "omni_redirect.h"

/* Kernels before 5.18 refuse programs that take frames of several buffers: for them the same
 * source is built a second time, without. */
#ifdef OMNI_LINEAR_ONLY
#define OMNI_SECTION SEC("xdp")
#else
#define OMNI_SECTION SEC("xdp.frags")
#endif

#define VLAN_TAG_LEN 4
#define IPV4_MIN_WORDS 5
#define IPV4_FRAGMENT_BITS 0x3fff /* more-fragments and the offset (RFC 791 s.3.1) */

/* The part of a frame that is not read yet. */
struct cursor {
	void *at;
	void *end;
};

/* A UDP header and the first field of the message behind it. */
struct datagram {
	struct udphdr udp;
	__be32 session_id;
};

/* What follows the session's number in every message. */
struct message_tail {
	__u8 type;
	__u8 flags;
	__be16 lane;
};

/* Where a frame comes from and goes to: what the underlay program decides by. */
struct destination {
	struct omni_endpoint from;
	struct omni_addr addr;
	__be16 port;
	__u16 lane;
	__be32 session_id;
	__u32 len;	/* octets of the message */
	__u8 type;
};

/*
 * Points `taken` at the next `len` octets; false when the linear part of the frame ends before.
 * A null pointer would say the same, but comparing a packet's pointer with null takes
 * CAP_PERFMON, which the engine has no other need for.
 */
static __always_inline bool take(struct cursor *rest, __u32 len, void **taken)
{
	if (rest->at + len > rest->end)
		return false;
	*taken = rest->at;
	rest->at += len;
	return true;
}

/* Reads past the Ethernet header and at most one VLAN tag; the EtherType of what follows, or 0. */
static __always_inline __be16 take_ethernet(struct cursor *rest)
{
	struct ethhdr *eth;
	__be16 *tag;

	if (!take(rest, sizeof(*eth), (void **)&eth))
		return 0;
	if (eth->h_proto != bpf_htons(ETH_P_8021Q) && eth->h_proto != bpf_htons(ETH_P_8021AD))
		return eth->h_proto;
	if (!take(rest, VLAN_TAG_LEN, (void **)&tag))
		return 0;
	return tag[1];
}

/* Reads past one word of options, when the header has so many words. */
static __always_inline bool take_word(struct cursor *rest, __u32 word, __u32 header_words)
{
	void *option;

	if (word > header_words)
		return true;
	if (!take(rest, 4, &option))
		return false;
	/* Else the compiler joins all words into one step of a variable length. */
	barrier_var(rest->at);
	return true;
}

/*
 * Reads past the options of an IPv4 header. Word by word and written out, as without CAP_PERFMON
 * the verifier takes no packet pointer moved by a variable, and follows a loop here too far.
 */
static __always_inline bool take_ipv4_options(struct cursor *rest, __u32 words)
{
	return take_word(rest, 6, words) && take_word(rest, 7, words) &&
	       take_word(rest, 8, words) && take_word(rest, 9, words) &&
	       take_word(rest, 10, words) && take_word(rest, 11, words) &&
	       take_word(rest, 12, words) && take_word(rest, 13, words) &&
	       take_word(rest, 14, words) && take_word(rest, 15, words);
}

/* Reads past an IPv4 header; the octets it announces for UDP, or 0 when this is none of ours. */
static __always_inline __u32 take_ipv4(struct cursor *rest, struct destination *to)
{
	__u32 header_len, total_len;
	struct iphdr *ip;

	if (!take(rest, sizeof(*ip), (void **)&ip) || ip->version != 4 ||
	    ip->ihl < IPV4_MIN_WORDS)
		return 0;
	if (ip->protocol != IPPROTO_UDP || (ip->frag_off & bpf_htons(IPV4_FRAGMENT_BITS)))
		return 0;
	header_len = ip->ihl * 4;
	total_len = bpf_ntohs(ip->tot_len);
	if (total_len < header_len || !take_ipv4_options(rest, ip->ihl))
		return 0;
	to->from.addr.word[2] = bpf_htonl(0xffff);
	to->from.addr.word[3] = ip->saddr;
	to->addr.word[2] = bpf_htonl(0xffff);
	to->addr.word[3] = ip->daddr;
	return total_len - header_len;
}

/* As take_ipv4. UDP must follow at once: a frame with extension headers is not for us. */
static __always_inline __u32 take_ipv6(struct cursor *rest, struct destination *to)
{
	struct ipv6hdr *ip;

	if (!take(rest, sizeof(*ip), (void **)&ip) || ip->version != 6)
		return 0;
	if (ip->nexthdr != IPPROTO_UDP)
		return 0;
	__builtin_memcpy(&to->from.addr, &ip->saddr, sizeof(to->from.addr));
	__builtin_memcpy(&to->addr, &ip->daddr, sizeof(to->addr));
	/* A mapped address on the wire is nobody's, and must not match our IPv4 address. */
	if (!to->addr.word[0] && !to->addr.word[1] && to->addr.word[2] == bpf_htonl(0xffff))
		return 0;
	return bpf_ntohs(ip->payload_len);
}

/*
 * Reads on in a message whose session's number was read. A message that ends before its lane
 * counts as one of type 0 on lane 0, which every session has: the engine knows what to call it.
 */
static __always_inline void read_tail(struct cursor *rest, struct destination *to)
{
	struct message_tail *tail;

	if (to->len < sizeof(to->session_id) + sizeof(*tail) ||
	    !take(rest, sizeof(*tail), (void **)&tail))
		return;
	to->type = tail->type;
	to->lane = bpf_ntohs(tail->lane);
}

/*
 * Whether this is a well-formed UDP datagram that holds a session's number, and to whom it goes.
 * Lengths come from the headers, not from the frame: what pads a short frame is not a message.
 */
static __always_inline bool read_destination(struct cursor rest, struct destination *to)
{
	struct datagram *datagram;
	__u32 granted, udp_len;

	switch (take_ethernet(&rest)) {
	case bpf_htons(ETH_P_IP):
		granted = take_ipv4(&rest, to);
		break;
	case bpf_htons(ETH_P_IPV6):
		granted = take_ipv6(&rest, to);
		break;
	default:
		return false;
	}
	if (!granted || !take(&rest, sizeof(*datagram), (void **)&datagram))
		return false;
	udp_len = bpf_ntohs(datagram->udp.len);
	if (udp_len < sizeof(*datagram) || udp_len > granted)
		return false;
	to->from.port = datagram->udp.source;
	to->port = datagram->udp.dest;
	to->session_id = datagram->session_id;
	to->len = udp_len - sizeof(datagram->udp);
	read_tail(&rest, to);
	return true;
}

#endif /* OMNI_MESSAGE_H */
