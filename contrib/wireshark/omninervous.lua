-- The wire protocol of OmniNervous for Wireshark and tshark: docs/protocol.md has what is dissected
-- here, docs/wireshark.md how this file is installed and used.
--
--   UDP payload -> message() -> handshake, cookie, reflection
--                            -> sealed() -> unsealed() -> eth, record()
--
-- Keys come from the key log of an engine. What is dissected comes from anybody: no field is read
-- before its length was looked at.

local floor = math.floor
-- Not a whole number: of those, Lua 5.4 lets sums beyond 2^63 overflow.
local TWO_32 = 4294967296.0
-- Beside this file.
local folder = debug.getinfo(1, "S").source:match("^@(.*[/\\])") or ""
local cipher = dofile(folder .. "omninervous_cipher.lua")

---------------------------------------------------------------------------------------------------
-- Fields
---------------------------------------------------------------------------------------------------

local omni = Proto("omni", "OmniNervous")

local INITIATION, RESPONSE, COOKIE, DATA, CONTROL, PROBE, ANSWER = 1, 2, 3, 4, 5, 16, 17
local TYPES = {
    [INITIATION] = "Initiation",
    [RESPONSE] = "Response",
    [COOKIE] = "Cookie reply",
    [DATA] = "Data",
    [CONTROL] = "Control",
    [PROBE] = "Reflection probe",
    [ANSWER] = "Reflection answer",
}
-- Of all messages of these types.
local LENGTHS = { [INITIATION] = 168, [RESPONSE] = 116, [COOKIE] = 68, [PROBE] = 48, [ANSWER] = 48 }
local HEADER_LEN, SEALED_AT, ETHERNET_LEN, LANES_MAX = 8, 32, 14, 256
local FAMILIES = { [4] = "IPv4", [6] = "IPv6" }
local KINDS = {
    [1] = "ANNOUNCE",
    [2] = "WITHDRAW",
    [3] = "CLAIM",
    [4] = "RELEASE",
    [5] = "VLANS",
    [6] = "GROUPS",
    [16] = "PROBE",
    [17] = "PROBE_ACK",
}
-- What the entries of records are made of, in their order.
local ENTRIES = {
    [1] = { "vlan", "family", "zero", "sequence", "lifetime", "mac", "ip" },
    [2] = { "vlan", "family", "zero", "sequence", "ip" },
    [3] = { "vlan", "mac", "sequence" },
    [4] = { "vlan", "mac", "sequence", "owner" },
    [6] = { "operation", "family", "vlan", "ip" },
}
-- Octets of each. That of an address is its family's.
local SIZES = { vlan = 2, family = 1, zero = 1, sequence = 4, lifetime = 2, mac = 6, owner = 32,
    operation = 1 }
local IP_SIZES = { [4] = 4, [6] = 16 }
local OPERATIONS = { [1] = "join", [2] = "leave" }
local VLAN_MAX, VLANS_LEN = 4094, 512

local f = {
    session_id = ProtoField.uint32("omni.session_id", "Session", base.HEX),
    type = ProtoField.uint8("omni.type", "Type", base.DEC, TYPES),
    flags = ProtoField.uint8("omni.flags", "Flags", base.HEX),
    version = ProtoField.uint16("omni.version", "Version", base.DEC),
    lane = ProtoField.uint16("omni.lane", "Lane", base.DEC),
    nonce = ProtoField.uint64("omni.nonce", "Nonce", base.DEC),
    tag = ProtoField.bytes("omni.tag", "Tag"),
    sealed = ProtoField.bytes("omni.sealed", "Sealed"),
    keepalive = ProtoField.bool("omni.keepalive", "Keepalive"),
    tag_verified = ProtoField.bool("omni.tag.verified", "Tag verified"),
    sender = ProtoField.uint32("omni.sender", "Sender's index", base.HEX),
    receiver = ProtoField.uint32("omni.receiver", "Receiver's index", base.HEX),
    ephemeral = ProtoField.bytes("omni.noise.ephemeral", "Ephemeral key"),
    static = ProtoField.bytes("omni.noise.static", "Sealed static key"),
    payload = ProtoField.bytes("omni.noise.payload", "Sealed payload"),
    mac1 = ProtoField.bytes("omni.mac1", "mac1"),
    mac2 = ProtoField.bytes("omni.mac2", "mac2"),
    cookie_nonce = ProtoField.bytes("omni.cookie.nonce", "Nonce"),
    cookie_sealed = ProtoField.bytes("omni.cookie.sealed", "Sealed cookie"),
    token = ProtoField.bytes("omni.reflection.token", "Token"),
    family = ProtoField.uint8("omni.reflection.family", "Family", base.DEC, FAMILIES),
    zero = ProtoField.bytes("omni.zero", "Zero"),
    port = ProtoField.uint16("omni.reflection.port", "Port", base.DEC),
    ipv4 = ProtoField.ipv4("omni.reflection.ipv4", "Address"),
    ipv6 = ProtoField.ipv6("omni.reflection.ipv6", "Address"),
    unknown = ProtoField.bytes("omni.unknown", "Not understood"),

    initiation_in = ProtoField.framenum("omni.initiation_in", "Initiation in", base.NONE,
        frametype.REQUEST),
    response_in = ProtoField.framenum("omni.response_in", "Response in", base.NONE,
        frametype.RESPONSE),
    response_time = ProtoField.relative_time("omni.response_time", "Time since the initiation"),
    session_age = ProtoField.relative_time("omni.session_age", "Time since the response"),
    direction = ProtoField.string("omni.direction", "Direction"),
    answers = ProtoField.framenum("omni.answers", "Cookie for the message in", base.NONE,
        frametype.REQUEST),
    probe_in = ProtoField.framenum("omni.probe_in", "Probe in", base.NONE, frametype.REQUEST),
    answer_in = ProtoField.framenum("omni.answer_in", "Answer in", base.NONE, frametype.RESPONSE),
    answer_time = ProtoField.relative_time("omni.answer_time", "Time since the probe"),
    same_as = ProtoField.framenum("omni.same_as", "The same message as in", base.NONE,
        frametype.DUP_ACK),

    kind = ProtoField.uint8("omni.record.kind", "Kind", base.DEC, KINDS),
    record_zero = ProtoField.uint8("omni.record.zero", "Zero", base.HEX),
    length = ProtoField.uint16("omni.record.length", "Length of the body", base.DEC),
    padding = ProtoField.bytes("omni.record.padding", "Padding"),
    entry = ProtoField.none("omni.record.entry", "Entry"),
    vlans = ProtoField.bytes("omni.record.vlans", "VLANs"),
    vlan_list = ProtoField.string("omni.record.vlans.list", "VLANs"),
    groups_flags = ProtoField.uint8("omni.record.groups.flags", "Flags", base.HEX),
    groups_first = ProtoField.bool("omni.record.groups.first", "First of a full list", 8, nil, 1),
    groups_last = ProtoField.bool("omni.record.groups.last", "Last of a full list", 8, nil, 2),
    groups_all = ProtoField.bool("omni.record.groups.all", "All groups are wanted", 8, nil, 4),
    probe_token = ProtoField.uint64("omni.record.probe.token", "Token", base.HEX),
    probe_size = ProtoField.uint16("omni.record.probe.size", "Octets that arrived", base.DEC),
    probe_zeros = ProtoField.bytes("omni.record.probe.zeros", "Up to the size that is probed"),
}

-- Fields of entries, by the names in ENTRIES.
local entry_fields = {
    vlan = ProtoField.uint16("omni.record.vlan", "VLAN", base.DEC),
    family = ProtoField.uint8("omni.record.family", "Family", base.DEC, FAMILIES),
    zero = ProtoField.uint8("omni.record.entry.zero", "Zero", base.HEX),
    sequence = ProtoField.uint32("omni.record.sequence", "Sequence", base.DEC),
    lifetime = ProtoField.uint16("omni.record.lifetime", "Lifetime in seconds", base.DEC),
    mac = ProtoField.ether("omni.record.mac", "MAC address"),
    owner = ProtoField.bytes("omni.record.owner", "Public key of the new owner"),
    operation = ProtoField.uint8("omni.record.operation", "Operation", base.DEC, OPERATIONS),
    [4] = ProtoField.ipv4("omni.record.ipv4", "IP address"),
    [6] = ProtoField.ipv6("omni.record.ipv6", "IP address"),
}

local all = {}
for _, field in pairs(f) do all[#all + 1] = field end
for _, field in pairs(entry_fields) do all[#all + 1] = field end
omni.fields = all

local function expert_of(name, text, group, severity)
    return ProtoExpert.new("omni.expert." .. name, text, group, severity)
end

local severity, group = expert.severity, expert.group
local e = {
    malformed = expert_of("malformed", "Malformed", group.MALFORMED, severity.ERROR),
    odd = expert_of("odd", "Ignored by a receiver", group.PROTOCOL, severity.WARN),
    tag = expert_of("tag", "The tag does not verify", group.DECRYPTION, severity.WARN),
    no_key = expert_of("no_key", "No key", group.DECRYPTION, severity.NOTE),
    cut = expert_of("cut", "The capture has only a part", group.UNDECODED, severity.NOTE),
    again = expert_of("again", "Seen before", group.SEQUENCE, severity.NOTE),
    overtaken = expert_of("overtaken", "Overtaken", group.SEQUENCE, severity.CHAT),
}
omni.experts = { e.malformed, e.odd, e.tag, e.no_key, e.cut, e.again, e.overtaken }

omni.prefs.ports = Pref.range("UDP ports", "51820", "Ports of fabrics and of Nuclei", 65535)
omni.prefs.key_log = Pref.string("Key log", "",
    "The file that an engine writes with OMNI_KEYLOG; it opens what was sealed")

---------------------------------------------------------------------------------------------------
-- What is remembered of a capture
---------------------------------------------------------------------------------------------------

-- Plain text that is kept, in octets: Wireshark dissects the same frame again and again.
local OPENED_MAX = 16777216
-- The most that is read of a key log at once, in octets.
local KEY_LOG_MAX = 67108864

local keys, key_log, seen, linked, opened

-- All of it is forgotten with the capture.
local function forget()
    -- By session id: a list of keys. Ids are random, and those of other nodes may be the same.
    keys = {}
    key_log = { offset = 0 }
    -- The newest of each sort: initiations and responses by their sender's index, sessions by id,
    -- probes by token, the newest nonce by session and lane. Of sealed messages all, by session,
    -- lane, nonce and tag.
    seen = { initiation = {}, response = {}, session = {}, reflection = {}, probe = {}, newest = {},
        sealed = {} }
    -- By message: what belongs together.
    linked = {}
    -- By message: plain text.
    opened = { size = 0 }
end
forget()

-- Reads what was added to the key log since. It grows during a live capture.
local function read_keys()
    key_log.looked = os.time()
    key_log.problem = nil
    local path = omni.prefs.key_log
    if path == "" then return end
    local file = io.open(path, "rb")
    local size = file and file:seek("end")
    if not size then
        key_log.problem = "the key log cannot be read"
        if file then file:close() end
        return
    end
    if size < key_log.offset then key_log.offset = 0 end
    file:seek("set", key_log.offset)
    local text = file:read(KEY_LOG_MAX)
    file:close()
    -- The last line may not be finished.
    text = text and text:match("^.*\n") or ""
    key_log.offset = key_log.offset + #text
    for id, key in text:gmatch("omni1 %l+ (%x+) (%x+) [^\n]*\n") do
        if #id == 8 and #key == 64 then
            local octets = key:gsub("%x%x", function(hex)
                return string.char(tonumber(hex, 16))
            end)
            local session = tonumber(id, 16)
            local known = keys[session] or {}
            keys[session] = known
            known[octets] = true
        end
    end
end

function omni.init()
    forget()
    read_keys()
end

-- The keys of a session. Those of one that is not known may have come meanwhile.
local function keys_of(session)
    if not keys[session] and key_log.looked ~= os.time() then read_keys() end
    return keys[session]
end

-- The time of a frame, for differences.
local function time_between(from, to)
    local seconds = to - from
    local whole = floor(seconds)
    local nanoseconds = floor((seconds - whole) * 1e9 + 0.5)
    if nanoseconds >= 1000000000 then whole, nanoseconds = whole + 1, 0 end
    return NSTime.new(whole, nanoseconds)
end

-- What is linked with a message; `find` is called for it when it is dissected for the first time,
-- which is in the order of the capture.
local function links(key, find)
    local found = linked[key]
    if not found then
        found = {}
        linked[key] = found
        find(found)
    end
    return found
end

local function generated(tree, field, value)
    if value ~= nil then tree:add(field, value):set_generated() end
end

local function complain(tree, about, text)
    tree:add_proto_expert_info(about, text)
end

---------------------------------------------------------------------------------------------------
-- Records and frames: what was sealed
---------------------------------------------------------------------------------------------------

-- The octets of an entry from `at` on: its length, and where its fields are; or nil, and why not.
local function measure(tvb, at, ends, names)
    local places, family, start = {}, nil, at
    for i, name in ipairs(names) do
        local size = SIZES[name] or IP_SIZES[family]
        if not size then return nil, "an unknown family ends the list" end
        if at + size > ends then return nil, "the last entry is cut off" end
        if name == "family" then family = tvb(at, 1):uint() end
        places[i] = { field = entry_fields[name] or entry_fields[family], name = name,
            range = tvb(at, size) }
        at = at + size
    end
    return at - start, places
end

-- Says of a field of an entry what it is, and what is wrong with it.
local function describe(item, place)
    local name, range = place.name, place.range
    if name == "vlan" then
        local vlan = range:uint()
        if vlan > VLAN_MAX then complain(item, e.odd, "there is no VLAN " .. vlan) end
        return "VLAN " .. vlan
    elseif name == "mac" then
        return tostring(range:ether())
    elseif name == "ip" then
        return tostring(range:len() == 4 and range:ipv4() or range:ipv6())
    elseif name == "lifetime" then
        if range:uint() == 0 then complain(item, e.odd, "a lifetime of 0") end
    elseif name == "zero" then
        if range:uint() ~= 0 then complain(item, e.odd, "this octet is zero in version 1") end
    elseif name == "operation" then
        local word = OPERATIONS[range:uint()]
        if not word then complain(item, e.odd, "an unknown operation") end
        return word
    elseif name == "owner" and range:bytes():tohex():match("^0+$") then
        return "nobody's"
    end
end

-- Adds the entries that there are. Says how many.
local function entries(tvb, at, ends, names, tree)
    local count = 0
    while at < ends do
        local length, places = measure(tvb, at, ends, names)
        if not length then
            complain(tree:add(f.unknown, tvb(at, ends - at)), e.malformed, places)
            break
        end
        local item = tree:add(f.entry, tvb(at, length))
        local words = {}
        for _, place in ipairs(places) do
            words[#words + 1] = describe(item:add(place.field, place.range), place)
        end
        count = count + 1
        item:set_text("Entry " .. count .. ": " .. table.concat(words, ", "))
        at = at + length
    end
    return count == 1 and "1 entry" or count .. " entries"
end

-- The VLANs of a set, as in "0, 7-9".
local function vlan_list(octets)
    local ranges, first = {}, nil
    for vlan = 0, VLANS_LEN * 8 do
        local octet = octets:byte(floor(vlan / 8) + 1) or 0
        local is_set = floor(octet / 2 ^ (vlan % 8)) % 2 == 1
        if is_set and not first then
            first = vlan
        elseif first and not is_set then
            local last = vlan - 1
            ranges[#ranges + 1] = last > first and ("%d-%d"):format(first, last) or tostring(first)
            first = nil
        end
    end
    return #ranges > 0 and table.concat(ranges, ", ") or "none"
end

-- The bodies of records that are no list of entries. Each gives what is to be seen at a glance.
local bodies = {
    VLANS = function(tvb, at, ends, tree)
        if ends - at < VLANS_LEN then
            complain(tree:add(f.unknown, tvb(at, ends - at)), e.malformed, "less than 512 octets")
            return
        end
        local range = tvb(at, VLANS_LEN)
        local list = vlan_list(range:raw())
        local item = tree:add(f.vlans, range)
        item:add(f.vlan_list, range, list)
        if list:match("4095$") then complain(item, e.odd, "VLAN 4095 is never used") end
        return list
    end,
    GROUPS = function(tvb, at, ends, tree)
        local item = tree:add(f.groups_flags, tvb(at, 1))
        for _, flag in ipairs({ f.groups_first, f.groups_last, f.groups_all }) do
            item:add(flag, tvb(at, 1))
        end
        if tvb(at, 1):uint() > 7 then complain(item, e.odd, "unknown flags") end
        return entries(tvb, at + 1, ends, ENTRIES[6], tree)
    end,
    PROBE = function(tvb, at, ends, tree, _, found)
        tree:add(f.probe_token, tvb(at, 8))
        if ends > at + 8 then tree:add(f.probe_zeros, tvb(at + 8, ends - at - 8)) end
        generated(tree, f.answer_in, found.answered_in)
        return ("%d octets"):format(ends - at + 4)
    end,
    PROBE_ACK = function(tvb, at, _, tree, pinfo, found)
        tree:add(f.probe_token, tvb(at, 8))
        tree:add(f.probe_size, tvb(at + 8, 2))
        local token = tvb(at, 8):raw()
        if not found.probe then
            local probe = seen.probe[token]
            found.probe = probe or {}
            if probe then linked[probe.key].answered_in = pinfo.number end
        end
        generated(tree, f.probe_in, found.probe.frame)
        if found.probe.frame then
            generated(tree, f.answer_time, time_between(found.probe.time, pinfo.rel_ts))
        end
        return ("%d octets"):format(tvb(at + 8, 2):uint())
    end,
}
-- The least that they need.
local BODY_MIN = { VLANS = 0, GROUPS = 1, PROBE = 8, PROBE_ACK = 10 }

local function record(tvb, pinfo, tree, key)
    local len = tvb:len()
    if len < 4 then
        complain(tree, e.malformed, "a record has at least 4 octets")
        return "record"
    end
    local kind, length = tvb(0, 1):uint(), tvb(2, 2):uint()
    local name = KINDS[kind] or ("unknown kind %d"):format(kind)
    local ends = 4 + length
    local branch = tree:add(omni, tvb(0, math.min(ends, len)), "Record: " .. name)
    branch:add(f.kind, tvb(0, 1))
    describe(branch:add(f.record_zero, tvb(1, 1)), { name = "zero", range = tvb(1, 1) })
    local length_item = branch:add(f.length, tvb(2, 2))
    if ends > len then
        complain(length_item, e.malformed, "the body is cut off: the record is ignored")
        if len > 4 then branch:add(f.unknown, tvb(4)) end
        return name .. " (cut off)"
    end
    if ends < len then branch:add(f.padding, tvb(ends)) end
    local about
    if ENTRIES[kind] and not bodies[name] then
        about = entries(tvb, 4, ends, ENTRIES[kind], branch)
    elseif not bodies[name] then
        complain(branch, e.odd, "an unknown kind is ignored")
        if length > 0 then branch:add(f.unknown, tvb(4, length)) end
    elseif length < BODY_MIN[name] then
        complain(branch, e.malformed, "the body is too short for its kind")
    else
        local found = linked[key]
        if name == "PROBE" and not found.is_probe then
            found.is_probe = true
            seen.probe[tvb(4, 8):raw()] = { frame = pinfo.number, time = pinfo.rel_ts, key = key }
        end
        about = bodies[name](tvb, 4, ends, branch, pinfo, found)
    end
    if not about then return name end
    branch:append_text(", " .. about)
    return name .. ", " .. about
end

-- The plain text of a message, or nil and why there is none.
local function open(message, session, key)
    local plain = opened[key]
    if plain then return plain end
    local candidates = keys_of(session)
    if not candidates then
        return nil, e.no_key, key_log.problem or "no key log has the keys of this session"
    end
    local nonce = "\0\0" .. message:sub(7, 16)
    for candidate in pairs(candidates) do
        local associated, tag, sealed = message:sub(1, 16), message:sub(17, 32), message:sub(33)
        plain = cipher.open(candidate, nonce, associated, sealed, tag)
        if plain then
            if opened.size > OPENED_MAX then opened = { size = 0 } end
            opened.size = opened.size + #plain
            opened[key] = plain
            return plain
        end
    end
    return nil, e.tag, "the tag does not verify with the session's key"
end

local ethernet = Dissector.get("eth_withoutfcs")

-- What was sealed. Says what it is, where nothing else says it.
local function unsealed(plain, type, pinfo, tree, root, key)
    if plain == "" then
        if type == DATA then return "keepalive" end
        complain(tree, e.malformed, "no record")
        return "no record"
    end
    local inner = ByteArray.new(plain, true):tvb(type == DATA and "Inner frame" or "Record")
    if type == CONTROL then return record(inner, pinfo, tree, key) end
    if #plain < ETHERNET_LEN then
        complain(tree:add(f.unknown, inner()), e.malformed, "a frame has at least 14 octets")
        return "no frame"
    end
    ethernet:call(inner, pinfo, root)
end

---------------------------------------------------------------------------------------------------
-- Messages
---------------------------------------------------------------------------------------------------

-- A message in the order of the capture: the same one may be seen on several interfaces.
local function remember(found, sort, id, pinfo, more)
    local before = seen[sort][id]
    if before and before.octets == more.octets then
        found.same_as = before.frame
        return before
    end
    more.frame, more.time = pinfo.number, pinfo.rel_ts
    seen[sort][id] = more
end

local function add_macs(tvb, at, tree)
    tree:add(f.mac1, tvb(at, 16))
    local item = tree:add(f.mac2, tvb(at + 16, 16))
    if tvb(at + 16, 16):raw() == ("\0"):rep(16) then item:append_text(" (no cookie)") end
end

local function add_index(tree, field, range)
    local item = tree:add(field, range)
    if range:uint() == 0 then complain(item, e.malformed, "an index is not 0") end
    return range:uint()
end

local function again(tree, found)
    if found.same_as then
        generated(tree, f.same_as, found.same_as)
        complain(tree, e.again, "this message was in frame " .. found.same_as)
    end
end

local function initiation(tvb, pinfo, tree, key)
    local index = add_index(tree, f.sender, tvb(8, 4))
    tree:add(f.ephemeral, tvb(12, 32))
    tree:add(f.static, tvb(44, 48))
    tree:add(f.payload, tvb(92, 44))
    add_macs(tvb, 136, tree)
    local found = links(key, function(found)
        remember(found, "initiation", index, pinfo, { octets = tvb:raw(), key = key })
    end)
    again(tree, found)
    generated(tree, f.response_in, found.answered_in)
    return ("index 0x%08x"):format(index)
end

-- A response makes a session of two directions, each with its receiver's index.
local function response(tvb, pinfo, tree, key)
    local index = add_index(tree, f.sender, tvb(8, 4))
    local receiver = add_index(tree, f.receiver, tvb(12, 4))
    tree:add(f.ephemeral, tvb(16, 32))
    tree:add(f.payload, tvb(48, 36))
    add_macs(tvb, 84, tree)
    local found = links(key, function(found)
        found.initiation = seen.initiation[receiver]
        local same = remember(found, "response", index, pinfo, { octets = tvb:raw(), key = key })
        if same then return end
        if found.initiation then linked[found.initiation.key].answered_in = pinfo.number end
        local session = { initiation = found.initiation, frame = pinfo.number, time = pinfo.rel_ts }
        seen.session[index] = { made = session, direction = "initiator to responder" }
        seen.session[receiver] = { made = session, direction = "responder to initiator" }
    end)
    again(tree, found)
    if found.initiation then
        generated(tree, f.initiation_in, found.initiation.frame)
        generated(tree, f.response_time, time_between(found.initiation.time, pinfo.rel_ts))
    end
    return ("index 0x%08x to 0x%08x"):format(index, receiver)
end

local function cookie(tvb, _, tree, key)
    local receiver = add_index(tree, f.receiver, tvb(8, 4))
    tree:add(f.cookie_nonce, tvb(12, 24))
    tree:add(f.cookie_sealed, tvb(36, 32))
    local found = links(key, function(found)
        found.message = seen.initiation[receiver] or seen.response[receiver]
    end)
    if found.message then generated(tree, f.answers, found.message.frame) end
    return ("to 0x%08x"):format(receiver)
end

local function reflection(tvb, pinfo, tree, key)
    local type, family, token = tvb(4, 1):uint(), tvb(24, 1):uint(), tvb(8, 16):raw()
    tree:add(f.token, tvb(8, 16))
    local family_item = tree:add(f.family, tvb(24, 1))
    tree:add(f.zero, tvb(25, 1))
    tree:add(f.port, tvb(26, 2))
    local rest = 28 + (type == ANSWER and IP_SIZES[family] or 0)
    if rest == 32 then tree:add(f.ipv4, tvb(28, 4)) end
    if rest == 44 then tree:add(f.ipv6, tvb(28, 16)) end
    tree:add(f.zero, tvb(rest))
    local zeros = tvb(25, 1):raw() .. tvb(rest):raw()
    if type == PROBE then zeros = zeros .. tvb(24, 4):raw() end
    if zeros:find("[^%z]") then
        complain(tree, e.malformed, "octets that have to be zero are not")
    end
    local found = links(key, function(found)
        if type == PROBE then
            remember(found, "reflection", token, pinfo, { octets = pinfo.number, key = key })
        else
            found.probe = seen.reflection[token]
            if found.probe then linked[found.probe.key].answered_in = pinfo.number end
        end
    end)
    if type == PROBE then
        generated(tree, f.answer_in, found.answered_in)
        return
    end
    if found.probe then
        generated(tree, f.probe_in, found.probe.frame)
        generated(tree, f.answer_time, time_between(found.probe.time, pinfo.rel_ts))
    end
    if not IP_SIZES[family] then
        complain(family_item, e.malformed, "a family is 4 or 6")
        return
    end
    local address = family == 4 and tvb(28, 4):ipv4() or tvb(28, 16):ipv6()
    return ("%s port %d"):format(tostring(address), tvb(26, 2):uint())
end

local handlers = { [INITIATION] = initiation, [RESPONSE] = response, [COOKIE] = cookie,
    [PROBE] = reflection, [ANSWER] = reflection }

-- Whose session it is, and whether the message was there before or is late.
local function session_links(found, session, lane, message, pinfo)
    found.session = seen.session[session]
    local made = found.session and found.session.made
    local stream = ("%d %d "):format(session, lane)
    -- Nonce and tag. This is kept for every message, so it is no table.
    local id = stream .. message:sub(9, 32)
    found.same_as = seen.sealed[id]
    if found.same_as then return end
    seen.sealed[id] = pinfo.number
    local high, low = Struct.unpack(">I4I4", message:sub(9, 16))
    local nonce, newest = high * TWO_32 + low, seen.newest[stream]
    -- An index that is used again counts from 0 once more.
    if newest and newest.made == made and nonce < newest.nonce then
        found.overtaken_by = newest.frame
    else
        seen.newest[stream] = { nonce = nonce, frame = pinfo.number, made = made }
    end
end

-- Data or control. `root` is what the inner frame's own tree belongs to. Says besides whether the
-- columns are the inner frame's.
local function sealed(tvb, pinfo, tree, root, key)
    local type, session, lane = tvb(4, 1):uint(), tvb(0, 4):uint(), tvb(6, 2):uint()
    local nonce_item = tree:add(f.nonce, tvb(8, 8))
    -- From 2^64 - 2^13 - 1 on.
    if tvb(8, 4):uint() == 0xffffffff and tvb(12, 4):uint() >= 0xffffdfff then
        complain(nonce_item, e.odd, "beyond the nonces of a session")
    end
    local tag_item = tree:add(f.tag, tvb(16, 16))
    local reported, captured = tvb:reported_len(), tvb:captured_len()
    if captured > SEALED_AT then tree:add(f.sealed, tvb(SEALED_AT)) end
    local is_keepalive = type == DATA and reported == SEALED_AT
    if is_keepalive then generated(tree, f.keepalive, true) end
    local message = tvb:raw()
    local found = links(key, function(found)
        session_links(found, session, lane, message, pinfo)
    end)
    again(tree, found)
    if found.overtaken_by then
        complain(nonce_item, e.overtaken, "overtaken by frame " .. found.overtaken_by)
    end
    if found.session then
        local made = found.session.made
        if made.initiation then generated(tree, f.initiation_in, made.initiation.frame) end
        generated(tree, f.response_in, made.frame)
        generated(tree, f.direction, found.session.direction)
        generated(tree, f.session_age, time_between(made.time, pinfo.rel_ts))
    end
    local about = ("lane %d, nonce %s"):format(lane, tostring(tvb(8, 8):uint64()))
    if captured < reported then
        complain(tree, e.cut, "the capture has only a part of this message")
        return about
    end
    if is_keepalive then about = about .. ", keepalive" end
    if omni.prefs.key_log == "" then return about end
    local plain, why, text = open(message, session, key)
    if not plain then
        complain(tag_item, why, text)
        return about
    end
    generated(tree, f.tag_verified, true)
    if is_keepalive then return about end
    local inner = unsealed(plain, type, pinfo, tree, root, key)
    return inner and about .. ", " .. inner or about, not inner
end

-- The header: what is wrong with it is said, and whether what follows can be understood.
local function header(tvb, tree)
    local session, type = tvb(0, 4):uint(), tvb(4, 1):uint()
    local session_item, type_item = tree:add(f.session_id, tvb(0, 4)), tree:add(f.type, tvb(4, 1))
    local flags_item = tree:add(f.flags, tvb(5, 1))
    if tvb(5, 1):uint() ~= 0 then complain(flags_item, e.malformed, "flags are 0") end
    local is_sealed = type == DATA or type == CONTROL
    local third = tree:add(is_sealed and f.lane or f.version, tvb(6, 2))
    if not TYPES[type] then
        complain(type_item, e.malformed, "an unknown type")
        return false
    end
    if is_sealed then
        if session == 0 then complain(session_item, e.malformed, "a session is not 0") end
        if tvb(6, 2):uint() >= LANES_MAX then
            complain(third, e.malformed, "a lane is below 256")
        end
    else
        if session ~= 0 then complain(session_item, e.malformed, "here the session is 0") end
        if tvb(6, 2):uint() ~= 1 then
            complain(third, e.malformed, "another version")
            return false
        end
    end
    local len, wanted = tvb:reported_len(), LENGTHS[type] or SEALED_AT
    if len < wanted or LENGTHS[type] and len > wanted then
        local words = LENGTHS[type] and "this type has %d octets, not %d"
            or "this type has at least %d octets, not %d"
        complain(type_item, e.malformed, words:format(wanted, len))
        return false
    end
    if tvb:captured_len() < wanted then
        complain(tree, e.cut, "the capture has only a part of this message")
        return false
    end
    return true
end

local function message(tvb, pinfo, root)
    local tree = root:add(omni, tvb())
    pinfo.cols.protocol = "OMNI"
    if tvb:captured_len() < HEADER_LEN then
        pinfo.cols.info = "Malformed"
        local is_cut = tvb:reported_len() >= HEADER_LEN
        complain(tree, is_cut and e.cut or e.malformed, "a message has at least 8 octets")
        return
    end
    local type = tvb(4, 1):uint()
    local name = TYPES[type] or ("Unknown type %d"):format(type)
    tree:append_text(", " .. name)
    pinfo.cols.info = name
    if not header(tvb, tree) then
        if tvb:captured_len() > HEADER_LEN then tree:add(f.unknown, tvb(HEADER_LEN)) end
        return
    end
    -- Where the session and the nonce, or an index and more, tell it from others of the frame.
    local key = ("%d "):format(pinfo.number) .. tvb(0, 24):raw()
    local about, is_inner
    if handlers[type] then
        about = handlers[type](tvb, pinfo, tree, key)
    else
        about, is_inner = sealed(tvb, pinfo, tree, root, key)
    end
    if about then
        tree:append_text(", " .. about)
        if not is_inner then pinfo.cols.info = name .. ", " .. about end
    end
end

-- WireGuard has the same port: its messages begin with a type of 1 to 4 and three zeros.
local function is_wireguard(tvb)
    if tvb:captured_len() < 6 or tvb(1, 3):uint() ~= 0 then return false end
    local first, type, flags = tvb(0, 1):uint(), tvb(4, 1):uint(), tvb(5, 1):uint()
    local is_ours = (type == DATA or type == CONTROL) and flags == 0
    return first >= 1 and first <= 4 and not is_ours
end

-- The length of the messages that the kernel has yet to cut a datagram into, or got in one: the
-- header of the second differs from that of the first in its nonce alone, which is one more.
local function piece_len(tvb)
    local len = tvb:captured_len()
    local is_long = len == tvb:reported_len() and len >= 2 * SEALED_AT
    local type = is_long and tvb(4, 1):uint()
    if type ~= DATA and type ~= CONTROL then return len end
    local octets = tvb:raw()
    local high, low = Struct.unpack(">I4I4", octets:sub(9, 16))
    if low == 0xffffffff then high, low = high + 1, -1 end
    if high > 0xffffffff then return len end
    local next_header = octets:sub(1, 8) .. Struct.pack(">I4I4", high, low + 1)
    local found = octets:find(next_header, SEALED_AT + 1, true)
    return found and found - 1 or len
end

function omni.dissector(tvb, pinfo, tree)
    if is_wireguard(tvb) then return 0 end
    local len = tvb:captured_len()
    if len == 0 then return 0 end
    local piece = piece_len(tvb)
    if piece == len then
        message(tvb, pinfo, tree)
        return len
    end
    for at = 0, len - 1, piece do
        message(tvb(at, math.min(piece, len - at)):tvb(), pinfo, tree)
    end
    return len
end

---------------------------------------------------------------------------------------------------
-- Ports
---------------------------------------------------------------------------------------------------

local udp = DissectorTable.get("udp.port")
local ports = omni.prefs.ports
udp:add(ports, omni)

function omni.prefs_changed()
    if tostring(omni.prefs.ports) ~= tostring(ports) then
        udp:remove(ports, omni)
        ports = omni.prefs.ports
        udp:add(ports, omni)
    end
    keys, key_log.offset, key_log.looked = {}, 0, nil
    read_keys()
end
