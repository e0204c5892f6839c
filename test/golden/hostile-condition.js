// Made by the emitter; see test/minimise/hostile.test.ts.
function k0(s, w, p, end, d) {
  if (d >= 32) return -1
  let q = 0, n = 0, m = 0, k = 0, x = w.getInt32(p, true)
  if (p < end && (x & 255) === 8) {
    if ((x & 32768) === 0) { if ((x & 32512) === 0) return -1; p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOf(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  if (p < end && (x & 255) === 18) {
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
  return p === end ? p : -1
}
let S6
function c6(s, w, from, to, t, u, o, cx) {
  t[o++] = 10; t[o++] = 22
  const length = to - from, epoch = 0, generation = Q6.generationAt(cx.eventMs)
  if (length === 0 || length > 44) return Q6.make(s, from, to, t, o, -1, epoch, generation, cx)
  const { words, doubles } = (S6 ??= Q6.slots())
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
  return Q6.make(s, from, to, t, o, slot, epoch, generation, cx)
}
function minimise(s, w, start, end, t, u, at, cx) {
  const limit = t.length - (end - start) - 456
  if (at > limit) return -1
  let p = start, q = 0, n = 0, m = 0, k = 0, o = at, c = 0, z = 0, x = w.getInt32(p, true)
  let a1 = 0, b1 = 0, v2 = 0, h2 = 0, v3 = 0, v4 = 0, r1 = 0, e1 = 0, v6 = false, v7 = 0, a8 = 0, b8 = 0, r2 = 0, e2 = 0, f1 = 0, a11 = 0, b11 = 0, h11 = 0, v12 = 0, h12 = 0, w0 = 0, y0 = 0, x0 = 0
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
    h2 = 1
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
    v3 = (n >>> 1) ^ -(n & 1)
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 32) {
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
    v4 = (n >>> 1) ^ -(n & 1)
    x = w.getInt32(p, true)
  }
  r1 = p
  if ((x & 255) === 40) {
    if ((x & 32768) === 0) { if ((x & 32512) === 0) return -1; p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOfSigned(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 48) {
    if ((x & 65280) !== 256) return -1
    v6 = (x & 256) !== 0
    p += 2
    x = w.getInt32(p, true)
  }
  e1 = p
  if ((x & 255) === 57) {
    p += 1
    if (p + 8 > end) return -1
    v7 = readDouble(s, p)
    p += 8
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 66) {
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
    a8 = q; b8 = p
    x = w.getInt32(p, true)
  }
  r2 = p
  if ((x & 255) === 74) {
    n = (x >>> 8) & 255
    p += 2
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    if (n === 0) return -1
    q = p + n
    if (!(q <= end)) return -1
    m = q
    while (p < m) {
      x = w.getInt32(p, true)
      if ((x & 128) === 0) { p += 1 }
      else if ((x & 32768) === 0) { if ((x & 32512) === 0) return -1; p += 2 }
      else { p = restOf(s, p + 2); if (p < 0) return -1 }
    }
    if (p !== m) return -1
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 82) {
    n = (x >>> 8) & 255
    p += 2
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    q = p + n
    if (!(q <= end)) return -1
    if (k0(s, w, p, q, 1) < 0) return -1
    p = q
    x = w.getInt32(p, true)
  }
  e2 = p
  if ((x & 255) === 90) {
    if (f1 === 1) return -1; f1 = 1
    h11 = 1
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
    a11 = q; b11 = p
    for (; q + 16 <= p; q += 16) if (((w.getInt32(q, true) | w.getInt32(q + 4, true) | w.getInt32(q + 8, true) | w.getInt32(q + 12, true)) & 0x80808080) !== 0) break
    for (; q + 4 <= p; q += 4) if ((w.getInt32(q, true) & 0x80808080) !== 0) break
    if (q < p && (q + 4 <= p || (w.getInt32(q, true) & (0x80808080 >>> ((4 - p + q) << 3))) !== 0) && !isUtf8(s, q, p)) return -1
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 96) {
    if (f1 === 1) return -1; f1 = 1
    h12 = 1
    if ((x & 32768) === 0) { n = (x >>> 8) & 127; p += 2 }
    else if ((x & 8388608) === 0) { n = ((x >>> 8) & 127) | ((x >>> 9) & 16256); if (n < 128) return -1; p += 3 }
    else {
      n = ((x >>> 8) & 127) | ((x >>> 9) & 16256); p += 3
      q = s[p++]; n |= (q & 127) << 14
      if (q > 127) { q = s[p++]; n |= (q & 127) << 21
      if (q > 127) { q = s[p++]; if (q > 15) return -1; n += q * 268435456
      }
      } if (!(q > 0 && q < 128)) return -1
    }
    v12 = n
    x = w.getInt32(p, true)
  }
  if (p !== end) {
    p = skipUnknown(s, p, end, 12)
    if (p !== end) return -1
  }
  if (!((((v6 && (labelOf(cx.scope, K0) !== K1)) && (cx.scope.fleet !== K2)) && (cx.scope.country === K3 || cx.scope.country === K4)))) return -42
  if ((v3 !== 0 || v4 !== 0)) {
    if (cx.cells === undefined && v3 >= -900000000 && v3 <= 900000000 && v4 >= -1800000000 && v4 <= 1800000000) {
      const l = v3 * 111320
      let i = Math.floor(l * 2e-10)
      if (i * 5000000000 > l) i--
      else if ((i + 1) * 5000000000 <= l) i++
      const row = cosines[((i + 20200) / 200) | 0]
      const y = ((i + 0.5) * 500) / 111320
      const x = ((Math.floor(((v4 / 10000000) * 111320 * row) / 500) + 0.5) * 500) / (111320 * row)
      y0 = (y > 90 ? 9000000 : y < -90 ? -9000000 : y < 0 ? -Math.floor(0.5 - y * 100000) : Math.floor(y * 100000 + 0.5)) * 100
      x0 = (x > 180 ? 18000000 : x < -180 ? -18000000 : x < 0 ? -Math.floor(0.5 - x * 100000) : Math.floor(x * 100000 + 0.5)) * 100
      w0 = 1; c = 1
    }
    else if (P5(v3, v4, cx)) { w0 = 1; y0 = moved.latE7; x0 = moved.lonE7; c = 1 }
    else { cx.failures++; z = -41 }
  } else z = -41
  n = c6(s, w, a1, b1, t, u, o, cx)
  if (n > limit) return -1
  if (n < 0) { cx.failures++ }
  else o = n
  n = Math.floor(v2 / 900000) * 900000; if (n > v2) n -= 900000
  if (n > 9007199254740991 || n < 0) return -1
  else if (n !== 0) {
    c = 1
    t[o++] = 16
    m = Math.floor(n / 268435456); o = writeHalves(t, o, (n - m * 268435456) | 0, m)
  }
  if (w0 === 1 && y0 !== 0) {
    t[o++] = 24
    n = y0
    n = ((n << 1) ^ (n >> 31)) >>> 0
    while (n > 127) { t[o++] = (n & 127) | 128; n >>>= 7 } t[o++] = n
  }
  if (w0 === 1 && x0 !== 0) {
    t[o++] = 32
    n = x0
    n = ((n << 1) ^ (n >> 31)) >>> 0
    while (n > 127) { t[o++] = (n & 127) | 128; n >>>= 7 } t[o++] = n
  }
  if (e1 > r1) {
    c = 1
    n = e1 - r1
    if (n > 256 && s === t) t.copyWithin(o, r1, e1)
    else for (q = 0; q < n; q += 8) u.setBigInt64(o + q, w.getBigInt64(r1 + q))
    o += n
  }
  n = C7(v7, t, o, cx)
  if (n > limit) return -1
  if (n < 0) { cx.failures++ }
  else if (n > o) { o = n; c = 1 }
  n = C8(s, w, a8, b8, t, u, o, cx)
  if (n > limit) return -1
  if (n < 0) { cx.failures++ }
  else if (n > o) { o = n; c = 1 }
  if (e2 > r2) {
    c = 1
    n = e2 - r2
    if (n > 256 && s === t) t.copyWithin(o, r2, e2)
    else for (q = 0; q < n; q += 8) u.setBigInt64(o + q, w.getBigInt64(r2 + q))
    o += n
  }
  if (h11 === 1) {
    n = C9(s, w, a11, b11, t, u, o, cx)
    if (n > limit) return -1
    if (n < 0) { cx.failures++ }
    else if (n > o) { o = n; c = 1 }
  }
  if (h12 === 1) {
    n = Math.min(50, Math.max(0, v12))
    if (n > 4294967295 || n < 0) { cx.failures++ }
    else {
      c = 1
      t[o++] = 96
      while (n > 127) { t[o++] = (n & 127) | 128; n >>>= 7 } t[o++] = n
    }
  }
  if (z !== 0) return z
  if (c === 0) return -40
  if (!T10(t, u, at, o, cx)) return -8
  return o
}
