/* What Rust's standard library needs of bcryptprimitives.dll, for a wine that has none. */
#include <windows.h>

/* RtlGenRandom; it has this name in advapi32. */
BOOLEAN NTAPI SystemFunction036(PVOID bytes, ULONG len);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T len)
{
    while (len > 0) {
        ULONG part = len > 0x10000000 ? 0x10000000 : (ULONG)len;
        if (!SystemFunction036(bytes, part))
            return FALSE;
        bytes += part;
        len -= part;
    }
    return TRUE;
}
