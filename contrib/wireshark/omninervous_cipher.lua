-- ChaCha20-Poly1305 (RFC 8439) in plain Lua, 5.1 to 5.4, for omninervous.lua: Lua in Wireshark 4.0
-- has no cipher. A frame of 1500 octets takes some 2 ms.
--
-- Nothing in here is made for secrets that matter: it opens what a key log has given away.

local TWO_32 = 4294967296
local floor = math.floor

-- Exclusive or, and rotation to the left, of 32 bits. What they are given may have more.
local bxor, rol
if math.type then
    -- Lua 5.3 has operators, which are no syntax of older ones.
    bxor, rol = assert(load([[
        return function(a, b) return (a ~ b) & 0xffffffff end,
            function(x, n)
                x = x & 0xffffffff
                return (x << n | x >> 32 - n) & 0xffffffff
            end
    ]]))()
elseif bit32 then
    bxor, rol = bit32.bxor, bit32.lrotate
else
    bxor, rol = bit.bxor, bit.rol
end

-- Little-endian words of 32 bits from the octets of a string.
local function words_of(octets)
    local words = {}
    for at = 1, #octets, 4 do
        local a, b, c, d = octets:byte(at, at + 3)
        words[#words + 1] = a + b * 256 + c * 65536 + d * 16777216
    end
    return words
end

-- Sums are not cut to 32 bits: 20 rounds add no more than 8 bits, and `bxor` cuts them.
local function quarter_round(x, a, b, c, d)
    local xa, xb, xc, xd = x[a], x[b], x[c], x[d]
    xa = xa + xb
    xd = rol(bxor(xd, xa), 16)
    xc = xc + xd
    xb = rol(bxor(xb, xc), 12)
    xa = xa + xb
    xd = rol(bxor(xd, xa), 8)
    xc = xc + xd
    xb = rol(bxor(xb, xc), 7)
    x[a], x[b], x[c], x[d] = xa, xb, xc, xd
end

-- Sixteen words of key stream (RFC 8439 s.2.3). `state` is left as it is.
local function block(state)
    local x = {}
    for i = 1, 16 do x[i] = state[i] end
    for _ = 1, 10 do
        quarter_round(x, 1, 5, 9, 13)
        quarter_round(x, 2, 6, 10, 14)
        quarter_round(x, 3, 7, 11, 15)
        quarter_round(x, 4, 8, 12, 16)
        quarter_round(x, 1, 6, 11, 16)
        quarter_round(x, 2, 7, 12, 13)
        quarter_round(x, 3, 8, 9, 14)
        quarter_round(x, 4, 5, 10, 15)
    end
    for i = 1, 16 do x[i] = (x[i] + state[i]) % TWO_32 end
    return x
end

local function octets_of(words, count)
    local parts = {}
    for i = 1, count do
        local word = words[i]
        local a = word % 256
        local b = floor(word / 256) % 256
        local c = floor(word / 65536) % 256
        parts[i] = string.char(a, b, c, floor(word / 16777216))
    end
    return table.concat(parts)
end

-- The state of block 0: constants, key of 32 octets, counter, nonce of 12 octets.
local function state_of(key, nonce)
    return words_of("expand 32-byte k" .. key .. "\0\0\0\0" .. nonce)
end

local function chacha20(key, nonce, text)
    local state = state_of(key, nonce)
    local parts = {}
    for at = 1, #text, 64 do
        state[13] = state[13] + 1
        local stream = block(state)
        local piece = text:sub(at, at + 63)
        local padded = words_of(piece .. ("\0"):rep(-#piece % 4))
        for i = 1, #padded do padded[i] = bxor(padded[i], stream[i]) % TWO_32 end
        parts[#parts + 1] = octets_of(padded, #padded):sub(1, #piece)
    end
    return table.concat(parts)
end

-- Numbers are exact up to 2^53, so there are six limbs of 22 bits (RFC 8439 s.2.5). 2^132 is 20
-- modulo 2^130 - 5. `top` is the bit above the block.
local LIMB = 4194304

local function limbs_of(octets, at, top)
    local a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p = octets:byte(at, at + 15)
    return a + b * 256 + c % 64 * 65536,
        floor(c / 64) + d * 4 + e * 1024 + f % 16 * 262144,
        floor(f / 16) + g * 16 + h * 4096 + i % 4 * 1048576,
        floor(i / 4) + j * 64 + k * 16384,
        l + m * 256 + n % 64 * 65536,
        floor(n / 64) + o * 4 + p * 1024 + top * 262144
end

local function clamped(r)
    local octets = { r:byte(1, 16) }
    for _, i in ipairs({ 4, 8, 12, 16 }) do octets[i] = octets[i] % 16 end
    for _, i in ipairs({ 5, 9, 13 }) do octets[i] = octets[i] - octets[i] % 4 end
    return string.char((unpack or table.unpack)(octets))
end

-- Hands carries on from limb to limb. What leaves the last is in front again.
local function carried(h)
    for i = 1, 6 do
        local carry = floor(h[i] / LIMB)
        h[i] = h[i] - carry * LIMB
        if i < 6 then h[i + 1] = h[i + 1] + carry else h[1] = h[1] + carry * 20 end
    end
end

local cipher = {}

-- `message` is a whole number of blocks, as it always is in the AEAD.
function cipher.poly1305(key, message)
    local r0, r1, r2, r3, r4, r5 = limbs_of(clamped(key:sub(1, 16)), 1, 0)
    local s1, s2, s3, s4, s5 = 20 * r1, 20 * r2, 20 * r3, 20 * r4, 20 * r5
    local h0, h1, h2, h3, h4, h5 = 0, 0, 0, 0, 0, 0
    for at = 1, #message, 16 do
        local m0, m1, m2, m3, m4, m5 = limbs_of(message, at, 1)
        h0, h1, h2, h3, h4, h5 = h0 + m0, h1 + m1, h2 + m2, h3 + m3, h4 + m4, h5 + m5
        local d0 = h0 * r0 + h1 * s5 + h2 * s4 + h3 * s3 + h4 * s2 + h5 * s1
        local d1 = h0 * r1 + h1 * r0 + h2 * s5 + h3 * s4 + h4 * s3 + h5 * s2
        local d2 = h0 * r2 + h1 * r1 + h2 * r0 + h3 * s5 + h4 * s4 + h5 * s3
        local d3 = h0 * r3 + h1 * r2 + h2 * r1 + h3 * r0 + h4 * s5 + h5 * s4
        local d4 = h0 * r4 + h1 * r3 + h2 * r2 + h3 * r1 + h4 * r0 + h5 * s5
        local d5 = h0 * r5 + h1 * r4 + h2 * r3 + h3 * r2 + h4 * r1 + h5 * r0
        local carry = floor(d0 / LIMB)
        h0, d1 = d0 - carry * LIMB, d1 + carry
        carry = floor(d1 / LIMB)
        h1, d2 = d1 - carry * LIMB, d2 + carry
        carry = floor(d2 / LIMB)
        h2, d3 = d2 - carry * LIMB, d3 + carry
        carry = floor(d3 / LIMB)
        h3, d4 = d3 - carry * LIMB, d4 + carry
        carry = floor(d4 / LIMB)
        h4, d5 = d4 - carry * LIMB, d5 + carry
        carry = floor(d5 / LIMB)
        h5, h0 = d5 - carry * LIMB, h0 + carry * 20
        carry = floor(h0 / LIMB)
        h0, h1 = h0 - carry * LIMB, h1 + carry
    end
    local h = { h0, h1, h2, h3, h4, h5 }
    carried(h)
    carried(h)
    -- Bits from 130 on, which is bit 20 of the last limb.
    for _ = 1, 2 do
        local over = floor(h[6] / 1048576)
        h[6] = h[6] - over * 1048576
        h[1] = h[1] + over * 5
        carried(h)
    end
    -- Less the prime, where that is not below zero: adding 5 then reaches bit 130.
    local g = { h[1] + 5, h[2], h[3], h[4], h[5], h[6] }
    carried(g)
    if g[6] >= 1048576 then
        g[6] = g[6] - 1048576
        h = g
    end
    -- Sixteen octets, and the second half of the key on top.
    local tag, bits, width, limb, carry = {}, 0, 0, 1, 0
    for i = 1, 16 do
        while width < 8 do
            bits = bits + (h[limb] or 0) * 2 ^ width
            width, limb = width + 22, limb + 1
        end
        local sum = bits % 256 + key:byte(16 + i) + carry
        bits, width = floor(bits / 256), width - 8
        tag[i] = string.char(floor(sum % 256))
        carry = floor(sum / 256)
    end
    return table.concat(tag)
end

local function padded(octets)
    return octets .. ("\0"):rep(-#octets % 16)
end

local function length_of(octets)
    return octets_of({ #octets, 0 }, 2)
end

-- The tag of sealed octets, of 16 octets.
function cipher.tag(key, nonce, associated, sealed)
    local one_time = octets_of(block(state_of(key, nonce)), 8)
    local lengths = length_of(associated) .. length_of(sealed)
    return cipher.poly1305(one_time, padded(associated) .. padded(sealed) .. lengths)
end

-- What was sealed, or nil where the tag does not verify.
function cipher.open(key, nonce, associated, sealed, tag)
    if cipher.tag(key, nonce, associated, sealed) == tag then
        return chacha20(key, nonce, sealed)
    end
end

return cipher
