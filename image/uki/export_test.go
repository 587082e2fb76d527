package uki

import "encoding/hex"

// PolicyOf is pcrPolicy, in hex.
func PolicyOf(pcr PCR) string {
	policy := pcrPolicy(pcr)
	return hex.EncodeToString(policy[:])
}
