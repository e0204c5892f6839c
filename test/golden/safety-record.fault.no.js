// safety-record <- fault, without the operator's yes. Made by the emitter; see test/golden.test.ts.
function minimise(s, w, start, end, t, u, at, cx) {
  const limit = t.length - (end - start) - 480
  if (at > limit) return -1
  let p = start, q = 0, n = 0, m = 0, k = 0, o = at, c = 0, z = 0, x = w.getInt32(p, true)
  let r1 = 0, e1 = 0, r2 = 0, e2 = 0, r3 = 0, e3 = 0, v13 = 0
  r1 = p
  if ((x & 255) === 10) {
    n = (x >>> 8) & 255
    p += 2
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    if (n === 0) return -1
    q = p
    p += n
    if (!(p <= end)) return -1
    for (; q + 16 <= p; q += 16) if (((w.getInt32(q, true) | w.getInt32(q + 4, true) | w.getInt32(q + 8, true) | w.getInt32(q + 12, true)) & 0x80808080) !== 0) break
    for (; q + 4 <= p; q += 4) if ((w.getInt32(q, true) & 0x80808080) !== 0) break
    if (q < p && (q + 4 <= p || (w.getInt32(q, true) & (0x80808080 >>> ((4 - p + q) << 3))) !== 0) && !isUtf8(s, q, p)) return -1
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 16) {
    if ((x & 32768) === 0) { if ((x & 32512) === 0) return -1; p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOfLong(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  e1 = p
  if ((x & 255) === 24) {
    if ((x & 32768) === 0) { p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOf(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 32) {
    if ((x & 32768) === 0) { p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOf(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 40) {
    if ((x & 65024) !== 0) return -1
    p += 2
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 50) {
    n = (x >>> 8) & 255
    p += 2
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    q = p
    p += n
    if (!(p <= end)) return -1
    for (; q + 16 <= p; q += 16) if (((w.getInt32(q, true) | w.getInt32(q + 4, true) | w.getInt32(q + 8, true) | w.getInt32(q + 12, true)) & 0x80808080) !== 0) break
    for (; q + 4 <= p; q += 4) if ((w.getInt32(q, true) & 0x80808080) !== 0) break
    if (q < p && (q + 4 <= p || (w.getInt32(q, true) & (0x80808080 >>> ((4 - p + q) << 3))) !== 0) && !isUtf8(s, q, p)) return -1
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 56) {
    if ((x & 32768) === 0) { p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOfLong(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  r2 = p
  for (k = 64; k <= 80; k += 8) {
    if ((x & 255) === k) {
      if ((x & 32768) === 0) { if ((x & 32512) === 0) return -1; p += 2 }
      else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
      else { p = restOf(s, p + 3); if (p < 0) return -1 }
      x = w.getInt32(p, true)
    }
  }
  e2 = p
  if ((x & 255) === 88) {
    if ((x & 32768) === 0) { p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOf(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  r3 = p
  if ((x & 255) === 96) {
    if ((x & 65280) !== 256) return -1
    p += 2
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 104) {
    if ((x & 32768) === 0) { n = (x >>> 8) & 127; if (n === 0) return -1; p += 2 }
    else if ((x & 8388608) === 0) { n = ((x >>> 8) & 127) | ((x >>> 9) & 16256); if (n < 128) return -1; p += 3 }
    else {
      n = ((x >>> 8) & 127) | ((x >>> 9) & 16256); p += 3
      q = s[p++]; n |= (q & 127) << 14
      if (q > 127) { q = s[p++]; n |= (q & 127) << 21
      if (q > 127) { q = s[p++]; if (q > 15) return -1; n += q * 268435456
      }
      } if (!(q > 0 && q < 128)) return -1
    }
    v13 = n
    x = w.getInt32(p, true)
  }
  e3 = p
  if ((x & 255) === 114) {
    n = (x >>> 8) & 255
    p += 2
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    q = p
    p += n
    if (!(p <= end)) return -1
    for (; q + 16 <= p; q += 16) if (((w.getInt32(q, true) | w.getInt32(q + 4, true) | w.getInt32(q + 8, true) | w.getInt32(q + 12, true)) & 0x80808080) !== 0) break
    for (; q + 4 <= p; q += 4) if ((w.getInt32(q, true) & 0x80808080) !== 0) break
    if (q < p && (q + 4 <= p || (w.getInt32(q, true) & (0x80808080 >>> ((4 - p + q) << 3))) !== 0) && !isUtf8(s, q, p)) return -1
    x = w.getInt32(p, true)
  }
  if (p !== end) {
    p = skipUnknown(s, p, end, 14)
    if (p !== end) return -1
  }
  if (!(((Math.floor(v13 / 4) & 1) === 1))) return -42
  if (e1 > r1) {
    n = e1 - r1
    if (n > 256 && s === t) t.copyWithin(o, r1, e1)
    else for (q = 0; q < n; q += 8) u.setBigInt64(o + q, w.getBigInt64(r1 + q))
    o += n
  }
  if (e2 > r2) {
    c = 1
    n = e2 - r2
    if (n > 256 && s === t) t.copyWithin(o, r2, e2)
    else for (q = 0; q < n; q += 8) u.setBigInt64(o + q, w.getBigInt64(r2 + q))
    o += n
  }
  if (e3 > r3) {
    c = 1
    n = e3 - r3
    if (n > 256 && s === t) t.copyWithin(o, r3, e3)
    else for (q = 0; q < n; q += 8) u.setBigInt64(o + q, w.getBigInt64(r3 + q))
    o += n
  }
  if (c === 0) return -40
  cx.topic = K0
  return o
}
