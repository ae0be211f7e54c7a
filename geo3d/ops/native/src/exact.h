// Include before anything else: it keeps compilers from fusing products and sums into multiply-adds. Each is rounded by
// itself, as in the torch references, so that every build computes the same distances bit by bit.
#pragma once
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif
