// Made by the emitter; see test/minimise/hostile.test.ts.
function k0(s, w, p, end) {
  let q = 0, n = 0, m = 0, k = 0
  if (p < end && s[p] === 8) {
    p += 1
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
      if (n === 0) return -1
    } else if (n === 0) return -1
  }
  if (p < end && s[p] === 18) {
    p += 1
    n = s[p++]
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    if (n === 0) return -1
    q = p
    p += n
    if (!(p <= end)) return -1
    for (; q + 8 <= p; q += 8) if (((w.getInt32(q, true) | w.getInt32(q + 4, true)) & 0x80808080) !== 0) break
    for (; q < p; q++) if (s[q] > 127) break
    if (q !== p && !isUtf8(s, q, p)) return -1
  }
  return p === end ? p : -1
}
return function minimise(s, w, start, end, t, at, cx) {
  if (at + (end - start) + 4440 > t.length) return -9
  let p = start, q = 0, n = 0, m = 0, k = 0, o = at, c = 0
  let a1 = 0, b1 = 0, v2 = 0, v3 = 0, v4 = 0, r1 = -1, e1 = 0, v6 = false, v7 = 0, a8 = 0, b8 = 0, r2 = -1, e2 = 0, h9 = 0, h10 = 0, f1 = 0, a11 = 0, b11 = 0, h11 = 0, v12 = 0, h12 = 0, w0 = 0, y0 = 0, x0 = 0
  if (s[p] === 10) {
    p += 1
    n = s[p++]
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    q = p
    p += n
    if (!(p <= end)) return -1
    a1 = q; b1 = p
    for (; q + 8 <= p; q += 8) if (((w.getInt32(q, true) | w.getInt32(q + 4, true)) & 0x80808080) !== 0) break
    for (; q < p; q++) if (s[q] > 127) break
    if (q !== p && !isUtf8(s, q, p)) return -1
  }
  if (s[p] === 16) {
    p += 1
    n = s[p++]
    if (n > 127) {
      n &= 127; q = s[p++]; n |= (q & 127) << 7
      if (q > 127) { q = s[p++]; n |= (q & 127) << 14
      if (q > 127) { q = s[p++]; n |= (q & 127) << 21
      if (q > 127) { q = s[p++]; m = q & 127
      if (q > 127) { q = s[p++]; m |= (q & 127) << 7
      if (q > 127) { q = s[p++]; m |= (q & 127) << 14
      if (q > 127) { q = s[p++]; m |= (q & 127) << 21 } } }
      n += m * 268435456; if (n > 9007199254740991) return -1 }
      } }
      if (!(q > 0 && q < 128)) return -1
    }
    v2 = n
  }
  if (s[p] === 24) {
    p += 1
    n = s[p++]
    if (n > 127) {
      n &= 127; q = s[p++]; n |= (q & 127) << 7
      if (q > 127) { q = s[p++]; n |= (q & 127) << 14
      if (q > 127) { q = s[p++]; n |= (q & 127) << 21
      if (q > 127) { q = s[p++]; if (q > 15) return -1; n += q * 268435456 }
      } }
      if (!(q > 0 && q < 128)) return -1
    }
    v3 = (n >>> 1) ^ -(n & 1)
  }
  if (s[p] === 32) {
    p += 1
    n = s[p++]
    if (n > 127) {
      n &= 127; q = s[p++]; n |= (q & 127) << 7
      if (q > 127) { q = s[p++]; n |= (q & 127) << 14
      if (q > 127) { q = s[p++]; n |= (q & 127) << 21
      if (q > 127) { q = s[p++]; if (q > 15) return -1; n += q * 268435456 }
      } }
      if (!(q > 0 && q < 128)) return -1
    }
    v4 = (n >>> 1) ^ -(n & 1)
  }
  if (s[p] === 40) {
    if (r1 < 0) r1 = p
    p += 1
    n = s[p++]
    if (n > 127) {
      n = s[p++]
      if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 7) return -1 } } }
      if (n === 0) return -1
    } else if (n === 0) return -1
    e1 = p
  }
  if (s[p] === 48) {
    if (r1 < 0) r1 = p
    p += 1
    n = s[p++]
    if (n !== 1) return -1
    v6 = n === 1
    e1 = p
  }
  if (s[p] === 57) {
    p += 1
    if (p + 8 > end) return -1
    v7 = readDouble(s, p)
    p += 8
  }
  if (s[p] === 66) {
    p += 1
    n = s[p++]
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    q = p
    p += n
    if (!(p <= end)) return -1
    a8 = q; b8 = p
  }
  if (s[p] === 74) {
    if (r2 < 0) r2 = p
    h9 = 1
    p += 1
    n = s[p++]
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    if (n === 0) return -1
    q = p + n
    if (!(q <= end)) return -1
    k = q
    while (p < k) {
      n = s[p++]
      if (n > 127) {
        n = s[p++]
        if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 127) { n = s[p++]; if (n > 15) return -1 } } }
        if (n === 0) return -1
      }
    }
    if (p !== k) return -1
    e2 = p
  }
  if (s[p] === 82) {
    if (r2 < 0) r2 = p
    h10 = 1
    p += 1
    n = s[p++]
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    if (n === 0) return -1
    q = p + n
    if (!(q <= end)) return -1
    if (k0(s, w, p, q) < 0) return -1
    p = q
    e2 = p
  }
  if (s[p] === 90) {
    if (f1 === 1) return -1; f1 = 1
    h11 = 1
    p += 1
    n = s[p++]
    if (n > 127) {
      m = s[p++]; n = (n & 127) | ((m & 127) << 7)
      if (m > 127) { m = s[p++]; n |= m << 14 }
      if (!(m > 0 && m < 128)) return -1
    }
    q = p
    p += n
    if (!(p <= end)) return -1
    a11 = q; b11 = p
    for (; q + 8 <= p; q += 8) if (((w.getInt32(q, true) | w.getInt32(q + 4, true)) & 0x80808080) !== 0) break
    for (; q < p; q++) if (s[q] > 127) break
    if (q !== p && !isUtf8(s, q, p)) return -1
  }
  if (s[p] === 96) {
    if (f1 === 1) return -1; f1 = 1
    h12 = 1
    p += 1
    n = s[p++]
    if (n > 127) {
      n &= 127; q = s[p++]; n |= (q & 127) << 7
      if (q > 127) { q = s[p++]; n |= (q & 127) << 14
      if (q > 127) { q = s[p++]; n |= (q & 127) << 21
      if (q > 127) { q = s[p++]; if (q > 15) return -1; n += q * 268435456 }
      } }
      if (!(q > 0 && q < 128)) return -1
    }
    v12 = n
  }
  if (p !== end) {
    p = skipUnknown(s, p, end, 12)
    if (p !== end) return -1
  }
  if (!((((v6 && (labelOf(cx.scope, K0) !== K1)) && (cx.scope.fleet !== K2)) && (cx.scope.country === K3 || cx.scope.country === K4)))) return -42
  if ((v3 !== 0 || v4 !== 0)) {
    if (P0(v3, v4, cx)) { w0 = 1; y0 = moved.lat; x0 = moved.lon; c = 1 }
    else { cx.failures++; return -41 }
  } else return -41
  n = C1(s, a1, b1, t, o, cx)
  if (n < 0) {
    cx.failures++
  } else o = n
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
  if (r1 >= 0) {
    c = 1
    n = e1 - r1
    if (n > 24 && s === t) { t.copyWithin(o, r1, e1); o += n } else for (q = r1; q < e1;) t[o++] = s[q++]
  }
  n = C7(v7, t, o, cx)
  if (n < 0) {
    cx.failures++
  } else if (n > o) { o = n; c = 1 }
  n = C8(s, a8, b8, t, o, cx)
  if (n < 0) {
    cx.failures++
  } else if (n > o) { o = n; c = 1 }
  if (r2 >= 0) {
    c = 1
    n = e2 - r2
    if (n > 24 && s === t) { t.copyWithin(o, r2, e2); o += n } else for (q = r2; q < e2;) t[o++] = s[q++]
  }
  if (h11 === 1) {
    n = C11(s, a11, b11, t, o, cx)
    if (n < 0) {
      cx.failures++
    } else if (n > o) { o = n; c = 1 }
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
  if (c === 0) return -40
  if (o > t.length) return -9
  if (!topicOf(t, at, o, cx)) return -8
  return o
}
