# Chooses one of two kernel images by the boot record and counts a trial; see
# docs/formats/boot-record.md. Numbers are hexadecimal. The record is read to
# 3e00000, its checksum made at 3e00200, the newer copy kept at 3e00400.
setenv newest; setenv seq 0; setenv trial; setenv pick a; setenv other b
part start ${devtype} ${devnum} ${distro_bootpart} first
${devtype} dev ${devnum}
for copy in FIRST SECOND; do
  setexpr at ${first} + ${copy}
  if ${devtype} read 3e00000 ${at} 1; then
    crc32 3e00000 1c 3e00200
    if itest.l *3e00000 == 43524257 && itest.l *3e00004 == 1 && itest.l *3e0001c == *3e00200 && itest.l *3e00008 -ge ${seq}; then
      cp.b 3e00000 3e00400 200
      setexpr.l seq *3e00008
      setenv newest ${copy}
    fi
  fi
done
if test -n "${newest}"; then
  if itest.l *3e0040c == 1; then setenv pick b; setenv other a; fi
  if itest.l *3e00410 -lt 2 && itest.l *3e00410 != *3e0040c && itest.l *3e00414 -gt 0; then
    setexpr.l left *3e00414 - 1
    setexpr.l done *3e00418 + 1
    setexpr seq ${seq} + 1
    mw.l 3e00408 ${seq}; mw.l 3e00414 ${left}; mw.l 3e00418 ${done}
    crc32 3e00400 1c 3e0041c
    setenv to FIRST
    if test ${newest} = FIRST; then setenv to SECOND; fi
    setexpr at ${first} + ${to}
    # What cannot be counted is not tried.
    if ${devtype} write 3e00400 ${at} 1; then
      setenv trial ${pick}; setenv pick ${other}; setenv other ${trial}
      echo "wayside: trial of ${pick}, ${left} left"
    fi
  fi
fi
# Started by name, so that the kernel image is told where it came from. Only
# one that cannot be started comes back.
# A trial has 16 s until its kernel feeds the watchdog: a hang before init ends
# in a reset. A device tree that states whether there is a watchdog means that
# it cannot be used. The registers are those of bcm2835_wdt in Linux.
# (No comment may begin a block, and none may hold an apostrophe.)
echo "wayside: starting ${pick}"
if load ${devtype} ${devnum}:${distro_bootpart} 4000000 EFI/Linux/wayside-${pick}.efi; then
  setenv pm; setenv state; setenv soc
  if test -n "${trial}" && fdt addr ${fdt_addr}; then
    fdt get value state /soc/watchdog@7e100000 status
    fdt get value soc / compatible 1
    if test "${soc}" = brcm,bcm2711; then setenv pm fe100000; fi
    if test "${soc}" = brcm,bcm2837; then setenv pm 3f100000; fi
    if test -n "${pm}" && test -z "${state}"; then
      echo "wayside: watchdog armed"
      setexpr wdog ${pm} + 24; setexpr rstc ${pm} + 1c
      setexpr.l value *${rstc} "&" ffffcf; setexpr value ${value} "|" 5a000020
      mw.l ${wdog} 5a0fffff; mw.l ${rstc} ${value}
    fi
  fi
  bootefi 4000000 ${fdt_addr}
fi
if test -n "${trial}"; then echo "wayside: it could not be started; starting over"; reset; fi
echo "wayside: starting ${other} instead"
if load ${devtype} ${devnum}:${distro_bootpart} 4000000 EFI/Linux/wayside-${other}.efi; then bootefi 4000000 ${fdt_addr}; fi
echo "wayside: neither kernel image could be started; starting over"
sleep 5
reset
