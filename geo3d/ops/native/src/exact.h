// Include before anything else: products and sums are rounded one by one, as in the torch references, so that every
// build finds the same distances bit by bit. Left alone, compilers join them to multiply-adds.
#pragma once
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif
