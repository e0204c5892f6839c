// service-cloud <- status, without the operator's yes. Made by the emitter; see test/golden.test.ts.
let S1
function c1(s, w, from, to, t, u, o, cx) {
  t[o++] = 10; t[o++] = 22
  const length = to - from, epoch = 0, generation = Q1.generationAt(cx.eventMs)
  if (length === 0 || length > 44) return Q1.make(s, from, to, t, o, -1, epoch, generation, cx)
  const { words, doubles } = (S1 ??= Q1.slots())
  const mask = -1 >>> ((-length & 3) << 3), last = to - 1 - ((length - 1) & 3), end = w.getInt32(last, true) & mask
  let hash = length, i = from
  for (; i < last; i += 4) hash = Math.imul(hash ^ w.getInt32(i, true), -1640531535)
  const slot = ((Math.imul(hash ^ end, -1640531535) >>> 15) & 4095) * 22
  if (doubles[slot >> 1] === epoch && doubles[(slot >> 1) + 1] === generation && words[slot + 4] === length) {
    let k = slot + 5
    for (i = from; i < last && words[k] === w.getInt32(i, true); i += 4) k++
    if (i >= last && words[k] === end) {
      k = slot + 16
      u.setInt32(o, words[k], true); u.setInt32(o + 4, words[k + 1], true); u.setInt32(o + 8, words[k + 2], true)
      u.setInt32(o + 12, words[k + 3], true); u.setInt32(o + 16, words[k + 4], true); u.setInt16(o + 20, words[k + 5], true)
      return o + 22
    }
  }
  return Q1.make(s, from, to, t, o, slot, epoch, generation, cx)
}
function minimise(s, w, start, end, t, u, at, cx) {
  const limit = t.length - (end - start) - 1000
  if (at > limit) return -1
  let p = start, q = 0, n = 0, m = 0, k = 0, o = at, c = 0, z = 0, x = w.getInt32(p, true)
  let a1 = 0, b1 = 0, v2 = 0, r1 = 0, e1 = 0, v8 = 0, v9 = 0, r2 = 0, e2 = 0, v10 = 0, r3 = 0, e3 = 0, v19 = 0, r4 = 0, e4 = 0, w0 = 0, y0 = 0, x0 = 0
  if ((x & 255) === 10) {
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
    a1 = q; b1 = p
    for (; q + 16 <= p; q += 16) if (((w.getInt32(q, true) | w.getInt32(q + 4, true) | w.getInt32(q + 8, true) | w.getInt32(q + 12, true)) & 0x80808080) !== 0) break
    for (; q + 4 <= p; q += 4) if ((w.getInt32(q, true) & 0x80808080) !== 0) break
    if (q < p && (q + 4 <= p || (w.getInt32(q, true) & (0x80808080 >>> ((4 - p + q) << 3))) !== 0) && !isUtf8(s, q, p)) return -1
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 16) {
    if ((x & 32768) === 0) { n = (x >>> 8) & 127; p += 2 }
    else if ((x & 8388608) === 0) { n = ((x >>> 8) & 127) | ((x >>> 9) & 16256); if (n < 128) return -1; p += 3 }
    else {
      n = ((x >>> 8) & 127) | ((x >>> 9) & 16256); p += 3
      q = s[p++]; n |= (q & 127) << 14
      if (q > 127) { q = s[p++]; n |= (q & 127) << 21
      if (q > 127) { q = s[p++]; m = q & 127
      if (q > 127) { q = s[p++]; m |= (q & 127) << 7
      if (q > 127) { q = s[p++]; m |= (q & 127) << 14
      if (q > 127) { q = s[p++]; m |= (q & 127) << 21 } } }
      n += m * 268435456; if (n > 9007199254740991) return -1 }
      } if (!(q > 0 && q < 128)) return -1
    }
    v2 = n
    x = w.getInt32(p, true)
  }
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
  r1 = p
  if ((x & 255) === 40) {
    if ((x & 65280) !== 256) return -1
    p += 2
    x = w.getInt32(p, true)
  }
  e1 = p
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
  if ((x & 255) === 64) {
    if ((x & 32768) === 0) { n = (x >>> 8) & 127; p += 2 }
    else if ((x & 8388608) === 0) { n = ((x >>> 8) & 127) | ((x >>> 9) & 16256); if (n < 128) return -1; p += 3 }
    else {
      n = ((x >>> 8) & 127) | ((x >>> 9) & 16256); p += 3
      q = s[p++]; n |= (q & 127) << 14
      if (q > 127) { q = s[p++]; n |= (q & 127) << 21
      if (q > 127) { q = s[p++]; if (q > 15) return -1; n |= q << 28
      }
      } if (!(q > 0 && q < 128)) return -1
    }
    v8 = (n >>> 1) ^ -(n & 1)
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 72) {
    if ((x & 32768) === 0) { n = (x >>> 8) & 127; p += 2 }
    else if ((x & 8388608) === 0) { n = ((x >>> 8) & 127) | ((x >>> 9) & 16256); if (n < 128) return -1; p += 3 }
    else {
      n = ((x >>> 8) & 127) | ((x >>> 9) & 16256); p += 3
      q = s[p++]; n |= (q & 127) << 14
      if (q > 127) { q = s[p++]; n |= (q & 127) << 21
      if (q > 127) { q = s[p++]; if (q > 15) return -1; n |= q << 28
      }
      } if (!(q > 0 && q < 128)) return -1
    }
    v9 = (n >>> 1) ^ -(n & 1)
    x = w.getInt32(p, true)
  }
  r2 = p
  if ((x & 255) === 80) {
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
    v10 = n
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 88) {
    if ((x & 65280) !== 256) return -1
    p += 2
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 96) {
    if ((x & 32768) === 0) { if ((x & 32512) === 0) return -1; p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOfSigned(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 104) {
    if ((x & 32768) === 0) { if ((x & 32512) === 0) return -1; p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOf(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 112) {
    if ((x & 32768) === 0) { if ((x & 32512) === 0) return -1; p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOf(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  e2 = p
  if ((x & 255) === 120) {
    if ((x & 32768) === 0) { p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOf(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  r3 = p
  for (k = 384; k <= 400; k += 8) {
    if ((x & 65535) === k) {
      if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
      else if (x >= 0) { if ((x & 2130706432) === 0) return -1; p += 4 }
      else { p = restOf(s, p + 4); if (p < 0) return -1 }
      x = w.getInt32(p, true)
    }
  }
  e3 = p
  if ((x & 65535) === 408) {
    if ((x & 8388608) === 0) { n = (x >>> 16) & 127; p += 3 }
    else if (x >= 0) { n = ((x >>> 16) & 127) | ((x >>> 17) & 16256); if (n < 128) return -1; p += 4 }
    else {
      n = ((x >>> 16) & 127) | ((x >>> 17) & 16256); p += 4
      q = s[p++]; n |= (q & 127) << 14
      if (q > 127) { q = s[p++]; n |= (q & 127) << 21
      if (q > 127) { q = s[p++]; if (q > 15) return -1; n += q * 268435456
      }
      } if (!(q > 0 && q < 128)) return -1
    }
    v19 = n
    x = w.getInt32(p, true)
  }
  r4 = p
  for (k = 416; k <= 472; k += 8) {
    if ((x & 65535) === k) {
      if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
      else if (x >= 0) { if ((x & 2130706432) === 0) return -1; p += 4 }
      else { p = restOf(s, p + 4); if (p < 0) return -1 }
      x = w.getInt32(p, true)
    }
  }
  e4 = p
  if ((x & 65535) === 482) {
    n = (x >>> 16) & 255
    p += 3
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
  if ((x & 65535) === 490) {
    n = (x >>> 16) & 255
    p += 3
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
    p = skipUnknown(s, p, end, 29)
    if (p !== end) return -1
  }
  if ((v8 !== 0 || v9 !== 0) && ((v10 > 0))) {
    if (cx.cells === undefined && v8 >= -900000000 && v8 <= 900000000 && v9 >= -1800000000 && v9 <= 1800000000) {
      const l = v8 * 111320
      let i = Math.floor(l * 1e-11)
      if (i * 100000000000 > l) i--
      else if ((i + 1) * 100000000000 <= l) i++
      const row = cosines[((i + 1010) / 10) | 0]
      const y = ((i + 0.5) * 10000) / 111320
      const x = ((Math.floor(((v9 / 10000000) * 111320 * row) / 10000) + 0.5) * 10000) / (111320 * row)
      y0 = (y > 90 ? 9000000 : y < -90 ? -9000000 : y < 0 ? -Math.floor(0.5 - y * 100000) : Math.floor(y * 100000 + 0.5)) * 100
      x0 = (x > 180 ? 18000000 : x < -180 ? -18000000 : x < 0 ? -Math.floor(0.5 - x * 100000) : Math.floor(x * 100000 + 0.5)) * 100
      w0 = 1; c = 1
    }
    else if (P0(v8, v9, cx)) { w0 = 1; y0 = moved.latE7; x0 = moved.lonE7; c = 1 }
    else { cx.failures++ }
  }
  n = c1(s, w, a1, b1, t, u, o, cx)
  if (n > limit) return -1
  if (n < 0) { cx.failures++ }
  else o = n
  n = Math.floor(v2 / 60000) * 60000; if (n > v2) n -= 60000
  if (n > 9007199254740991 || n < 0) return -1
  else if (n !== 0) {
    t[o++] = 16
    m = Math.floor(n / 268435456); o = writeHalves(t, o, (n - m * 268435456) | 0, m)
  }
  if (e1 > r1) {
    n = e1 - r1
    if (n > 256 && s === t) t.copyWithin(o, r1, e1)
    else for (q = 0; q < n; q += 8) u.setBigInt64(o + q, w.getBigInt64(r1 + q))
    o += n
  }
  if (w0 === 1 && y0 !== 0) {
    t[o++] = 64
    n = y0
    n = ((n << 1) ^ (n >> 31)) >>> 0
    while (n > 127) { t[o++] = (n & 127) | 128; n >>>= 7 } t[o++] = n
  }
  if (w0 === 1 && x0 !== 0) {
    t[o++] = 72
    n = x0
    n = ((n << 1) ^ (n >> 31)) >>> 0
    while (n > 127) { t[o++] = (n & 127) | 128; n >>>= 7 } t[o++] = n
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
  n = roundUnsigned(v19, 50)
  if (n > 4294967295 || n < 0) { cx.failures++ }
  else if (n !== 0) {
    c = 1
    t[o++] = 152; t[o++] = 1
    while (n > 127) { t[o++] = (n & 127) | 128; n >>>= 7 } t[o++] = n
  }
  if (e4 > r4) {
    c = 1
    n = e4 - r4
    if (n > 256 && s === t) t.copyWithin(o, r4, e4)
    else for (q = 0; q < n; q += 8) u.setBigInt64(o + q, w.getBigInt64(r4 + q))
    o += n
  }
  if (c === 0) return -40
  if (!T2(t, u, at, o, cx)) return -8
  return o
}
