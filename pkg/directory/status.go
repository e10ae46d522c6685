package directory

import (
	"slices"
	"strings"
)

// parseStatus reads a status attribute: missing is active, unknown inactive.
func parseStatus(v string) Status {
	s := Status(strings.ToLower(strings.TrimSpace(v)))
	if s == "" {
		return Active
	}
	if slices.Contains([]Status{Active, Inactive, Disabled, Deleted, Removed, Hold, OverQuota}, s) {
		return s
	}
	return Inactive
}

// effective is the rule of schema.md section 5: in the order domain, service's
// domain, user, service's user, the first that is not active wins.
func effective(statuses ...Status) Status {
	for _, s := range statuses {
		if s != Active {
			return s
		}
	}
	return Active
}
