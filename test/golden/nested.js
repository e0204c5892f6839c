// Messages in messages. Made by the emitter; see test/golden.test.ts.
let content = 0
function k0(s, w, p, end, d) {
  if (d >= 32) return -1
  let q = 0, n = 0, m = 0, k = 0, x = w.getInt32(p, true)
  let f1 = 0
  if (p < end && (x & 255) === 10) {
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
  if (p < end && (x & 255) === 16) {
    if ((x & 32768) === 0) { p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOf(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  if (p < end && (x & 255) === 24) {
    if (f1 === 1) return -1; f1 = 1
    if ((x & 32768) === 0) { p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOf(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  if (p < end && (x & 255) === 32) {
    if (f1 === 1) return -1; f1 = 1
    if ((x & 65024) !== 0) return -1
    p += 2
    x = w.getInt32(p, true)
  }
  return p === end ? p : -1
}
function k1(s, w, p, end, d) {
  if (d >= 32) return -1
  let q = 0, n = 0, m = 0, k = 0, x = w.getInt32(p, true)
  if (!(p < end && (x & 255) === 10)) return -1
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
  if (!(p < end && (x & 255) === 16)) return -1
  if ((x & 32768) === 0) { p += 2 }
  else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
  else { p = restOf(s, p + 3); if (p < 0) return -1 }
  x = w.getInt32(p, true)
  return p === end ? p : -1
}
function m0(s, w, p, end, t, u, o, cx, d) {
  const limit = t.length - (end - p) - 128
  if (o > limit || d >= 32) return -1
  let q = 0, n = 0, m = 0, k = 0, x = w.getInt32(p, true)
  let v2 = 0, h2 = 0
  if (p < end && (x & 255) === 10) {
    for (;;) {
      p = stepOver(F1, s, p + 1, end, d)
      if (p < 0) return -1
      if (!(p < end)) break
      x = w.getInt32(p, true)
      if (!((x & 255) === 10)) break
    }
    x = w.getInt32(p, true)
  }
  if (p < end && (x & 255) === 16) {
    h2 = 1
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
    v2 = n
    x = w.getInt32(p, true)
  }
  if (p < end && (x & 255) === 26) {
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
    p = skipUnknown(s, p, end, 3)
    if (p !== end) return -1
  }
  if (h2 === 1) {
    n = roundUnsigned(v2, 10)
    if (n > 4294967295 || n < 0) { cx.failures++ }
    else {
      content = 1
      t[o++] = 16
      while (n > 127) { t[o++] = (n & 127) | 128; n >>>= 7 } t[o++] = n
    }
  }
  return o
}
function m1(s, w, p, end, t, u, o, cx, d) {
  const limit = t.length - (end - p) - 128
  if (o > limit || d >= 32) return -1
  let q = 0, n = 0, m = 0, k = 0, x = w.getInt32(p, true)
  let a1 = 0, b1 = 0, r1 = 0, e1 = 0
  if (p < end && (x & 255) === 10) {
    a1 = p
    for (;;) {
      n = (x >>> 8) & 255
      p += 2
      if (n > 127) {
        m = s[p++]; n = (n & 127) | ((m & 127) << 7)
        if (m > 127) { m = s[p++]; n |= m << 14 }
        if (!(m > 0 && m < 128)) return -1
      }
      q = p + n
      if (!(q <= end)) return -1
      p = q
      if (!(p < end)) break
      x = w.getInt32(p, true)
      if (!((x & 255) === 10)) break
    }
    b1 = p
    x = w.getInt32(p, true)
  }
  r1 = p
  if (p < end && (x & 255) === 16) {
    if ((x & 32768) === 0) { p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOf(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  e1 = p
  if (p < end && (x & 255) === 26) {
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
    p = skipUnknown(s, p, end, 3)
    if (p !== end) return -1
  }
  for (p = a1; p < b1;) {
    content = 1
    p += 1
    n = s[p++]
    if (n > 127) { m = s[p++]; n = (n & 127) | ((m & 127) << 7); if (m > 127) n |= s[p++] << 14 }
    m = m2(s, w, p, p + n, t, u, o + 2, cx, d + 1)
    if (m < 0) return -1
    p += n
    t[o++] = 10
    o = closeLength(t, o, m)
    if (o > limit) return -1
  }
  if (e1 > r1) {
    content = 1
    n = e1 - r1
    if (n > 256 && s === t) t.copyWithin(o, r1, e1)
    else for (q = 0; q < n; q += 8) u.setBigInt64(o + q, w.getBigInt64(r1 + q))
    o += n
  }
  return o
}
function m2(s, w, p, end, t, u, o, cx, d) {
  const limit = t.length - (end - p) - 160
  if (o > limit || d >= 32) return -1
  let q = 0, n = 0, m = 0, k = 0, x = w.getInt32(p, true)
  let r1 = 0, e1 = 0, f1 = 0
  if (p < end && (x & 255) === 10) {
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
  r1 = p
  if (p < end && (x & 255) === 16) {
    if ((x & 32768) === 0) { p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOf(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  e1 = p
  if (p < end && (x & 255) === 24) {
    if (f1 === 1) return -1; f1 = 1
    if ((x & 32768) === 0) { p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOf(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  if (p < end && (x & 255) === 32) {
    if (f1 === 1) return -1; f1 = 1
    if ((x & 65024) !== 0) return -1
    p += 2
    x = w.getInt32(p, true)
  }
  if (p !== end) {
    p = skipUnknown(s, p, end, 4)
    if (p !== end) return -1
  }
  if (e1 > r1) {
    content = 1
    n = e1 - r1
    if (n > 256 && s === t) t.copyWithin(o, r1, e1)
    else for (q = 0; q < n; q += 8) u.setBigInt64(o + q, w.getBigInt64(r1 + q))
    o += n
  }
  return o
}
function m3(s, w, p, end, t, u, o, cx, d) {
  const limit = t.length - (end - p) - 96
  if (o > limit || d >= 32) return -1
  let q = 0, n = 0, m = 0, k = 0, x = w.getInt32(p, true)
  let r1 = 0, e1 = 0, a2 = 0, b2 = 0
  r1 = p
  if (!(p < end && (x & 255) === 8)) return -1
  if ((x & 32768) === 0) { p += 2 }
  else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
  else { p = restOf(s, p + 3); if (p < 0) return -1 }
  x = w.getInt32(p, true)
  e1 = p
  if (!(p < end && (x & 255) === 18)) return -1
  n = (x >>> 8) & 255
  p += 2
  if (n > 127) {
    m = s[p++]; n = (n & 127) | ((m & 127) << 7)
    if (m > 127) { m = s[p++]; n |= m << 14 }
    if (!(m > 0 && m < 128)) return -1
  }
  q = p + n
  if (!(q <= end)) return -1
  a2 = p; b2 = q
  p = q
  x = w.getInt32(p, true)
  if (p !== end) return -1
  if (e1 > r1) {
    n = e1 - r1
    if (n > 256 && s === t) t.copyWithin(o, r1, e1)
    else for (q = 0; q < n; q += 8) u.setBigInt64(o + q, w.getBigInt64(r1 + q))
    o += n
  }
  if (b2 > 0) {
    n = m4(s, w, a2, b2, t, u, o + 2, cx, d + 1)
    if (n < 0) return -1
    t[o++] = 18
    o = closeLength(t, o, n)
    if (o > limit) return -1
  }
  return o
}
function m4(s, w, p, end, t, u, o, cx, d) {
  const limit = t.length - (end - p) - 160
  if (o > limit || d >= 32) return -1
  let q = 0, n = 0, m = 0, k = 0, x = w.getInt32(p, true)
  let r1 = 0, e1 = 0, f1 = 0
  if (p < end && (x & 255) === 10) {
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
  r1 = p
  if (p < end && (x & 255) === 16) {
    if ((x & 32768) === 0) { p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOf(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  e1 = p
  if (p < end && (x & 255) === 24) {
    if (f1 === 1) return -1; f1 = 1
    if ((x & 32768) === 0) { p += 2 }
    else if ((x & 8388608) === 0) { if ((x & 8323072) === 0) return -1; p += 3 }
    else { p = restOf(s, p + 3); if (p < 0) return -1 }
    x = w.getInt32(p, true)
  }
  if (p < end && (x & 255) === 32) {
    if (f1 === 1) return -1; f1 = 1
    if ((x & 65024) !== 0) return -1
    p += 2
    x = w.getInt32(p, true)
  }
  if (p !== end) {
    p = skipUnknown(s, p, end, 4)
    if (p !== end) return -1
  }
  if (e1 > r1) {
    content = 1
    n = e1 - r1
    if (n > 256 && s === t) t.copyWithin(o, r1, e1)
    else for (q = 0; q < n; q += 8) u.setBigInt64(o + q, w.getBigInt64(r1 + q))
    o += n
  }
  return o
}
function minimise(s, w, start, end, t, u, at, cx) {
  const limit = t.length - (end - start) - 288
  if (at > limit) return -1
  let p = start, q = 0, n = 0, m = 0, k = 0, o = at, c = 0, z = 0, x = w.getInt32(p, true)
  let a1 = 0, b1 = 0, r1 = 0, e1 = 0, a3 = 0, b3 = 0, a4 = 0, b4 = 0, r2 = 0, e2 = 0, g6 = 0, a7 = 0, b7 = 0, a8 = 0, b8 = 0
  content = 0
  if ((x & 255) === 10) {
    n = (x >>> 8) & 255
    p += 2
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    q = p + n
    if (!(q <= end)) return -1
    a1 = p; b1 = q
    p = q
    x = w.getInt32(p, true)
  }
  r1 = p
  if ((x & 255) === 16) {
    if ((x & 32768) === 0) { n = (x >>> 8) & 127; p += 2 }
    else if ((x & 8388608) === 0) { n = ((x >>> 8) & 127) | ((x >>> 9) & 16256); if (n < 128) return -1; p += 3 }
    else {
      n = ((x >>> 8) & 127) | ((x >>> 9) & 16256); p += 3
      q = s[p++]; n |= (q & 127) << 14
      if (q > 127) { q = s[p++]; n |= (q & 127) << 21
      if (q > 127) { q = s[p++]; n |= q << 28
      if (q > 7) { if (q < 248 || w.getInt32(p, true) !== -1 || s[p + 4] !== 1) return -1; p += 5; q = 1 } }
      } if (!(q > 0 && q < 128)) return -1
    }
    if (n >>> 0 > 2) return -1
    x = w.getInt32(p, true)
  }
  e1 = p
  if ((x & 255) === 26) {
    n = (x >>> 8) & 255
    p += 2
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    q = p + n
    if (!(q <= end)) return -1
    a3 = p; b3 = q
    p = q
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 34) {
    a4 = p
    for (;;) {
      n = (x >>> 8) & 255
      p += 2
      if (n > 127) {
        m = s[p++]; n = (n & 127) | ((m & 127) << 7)
        if (m > 127) { m = s[p++]; n |= m << 14 }
        if (!(m > 0 && m < 128)) return -1
      }
      q = p + n
      if (!(q <= end)) return -1
      p = q
      if (!(p < end)) break
      x = w.getInt32(p, true)
      if (!((x & 255) === 34)) break
    }
    b4 = p
    x = w.getInt32(p, true)
  }
  r2 = p
  if ((x & 255) === 42) {
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
  if ((x & 255) === 50) {
    g6 = p
    for (;;) {
      n = (x >>> 8) & 255
      p += 2
      if (n > 127) {
        m = s[p++]; n = (n & 127) | ((m & 127) << 7)
        if (m > 127) { m = s[p++]; n |= m << 14 }
        if (!(m > 0 && m < 128)) return -1
      }
      q = p + n
      if (!(q <= end)) return -1
      if (k1(s, w, p, q, 1) < 0) return -1
      p = q
      if (!(p < end)) break
      x = w.getInt32(p, true)
      if (!((x & 255) === 50)) break
    }
    if (repeatsKey(s, g6, p, 1)) return -1
    x = w.getInt32(p, true)
  }
  e2 = p
  if ((x & 255) === 58) {
    a7 = p
    for (;;) {
      n = (x >>> 8) & 255
      p += 2
      if (n > 127) {
        m = s[p++]; n = (n & 127) | ((m & 127) << 7)
        if (m > 127) { m = s[p++]; n |= m << 14 }
        if (!(m > 0 && m < 128)) return -1
      }
      q = p + n
      if (!(q <= end)) return -1
      p = q
      if (!(p < end)) break
      x = w.getInt32(p, true)
      if (!((x & 255) === 58)) break
    }
    if (repeatsKey(s, a7, p, 1)) return -1
    b7 = p
    x = w.getInt32(p, true)
  }
  if ((x & 255) === 66) {
    a8 = p
    p = stepOver(F0, s, p + 1, end, 0)
    if (p < 0) return -1
    b8 = p
    x = w.getInt32(p, true)
  }
  if (p !== end) {
    p = skipUnknown(s, p, end, 8)
    if (p !== end) return -1
  }
  if (b1 > 0) {
    n = floorTime(s, a1, b1, t, o + 2, 900000)
    if (n < 0) return -1
    c = 1
    t[o++] = 10
    o = closeLength(t, o, n)
    if (o > limit) return -1
  }
  if (e1 > r1) {
    c = 1
    n = e1 - r1
    if (n > 256 && s === t) t.copyWithin(o, r1, e1)
    else for (q = 0; q < n; q += 8) u.setBigInt64(o + q, w.getBigInt64(r1 + q))
    o += n
  }
  if (b3 > 0) {
    n = m0(s, w, a3, b3, t, u, o + 2, cx, 1)
    if (n < 0) return -1
    if (n > o + 2) {
      t[o++] = 26
      o = closeLength(t, o, n)
      if (o > limit) return -1
    }
  }
  for (p = a4; p < b4;) {
    c = 1
    p += 1
    n = s[p++]
    if (n > 127) { m = s[p++]; n = (n & 127) | ((m & 127) << 7); if (m > 127) n |= s[p++] << 14 }
    m = m1(s, w, p, p + n, t, u, o + 2, cx, 1)
    if (m < 0) return -1
    p += n
    t[o++] = 34
    o = closeLength(t, o, m)
    if (o > limit) return -1
  }
  if (e2 > r2) {
    c = 1
    n = e2 - r2
    if (n > 256 && s === t) t.copyWithin(o, r2, e2)
    else for (q = 0; q < n; q += 8) u.setBigInt64(o + q, w.getBigInt64(r2 + q))
    o += n
  }
  for (p = a7; p < b7;) {
    c = 1
    p += 1
    n = s[p++]
    if (n > 127) { m = s[p++]; n = (n & 127) | ((m & 127) << 7); if (m > 127) n |= s[p++] << 14 }
    m = m3(s, w, p, p + n, t, u, o + 2, cx, 1)
    if (m < 0) return -1
    p += n
    t[o++] = 58
    o = closeLength(t, o, m)
    if (o > limit) return -1
  }
  if (b8 > 0) {
    n = A2(s, a8, b8, t, o, cx)
    if (n > limit || (n < 0 && n !== -40)) return -1
    if (n > 0) { o = n; c = 1 }
  }
  if (c === 0 && content === 0) return -40
  cx.topic = K3
  return o
}
