// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"encoding/json"
	"net/http"
)

const longestReview = 4 << 20 // bytes

// admit allows what it is asked about, with a warning by which somebody sees that it was asked.
func admit(w http.ResponseWriter, r *http.Request) {
	review(w, r, func(request object) object {
		return object{"uid": request["uid"], "allowed": true, "warnings": []string{group + " was asked"}}
	})
}

// convert changes nothing but the version.
func convert(w http.ResponseWriter, r *http.Request) {
	review(w, r, func(request object) object {
		converted := []any{}
		given, _ := request["objects"].([]any)
		for _, one := range given {
			if fields, ok := one.(object); ok {
				fields["apiVersion"] = request["desiredAPIVersion"]
			}
			converted = append(converted, one)
		}
		return object{"uid": request["uid"], "result": object{"status": "Success"}, "convertedObjects": converted}
	})
}

// review answers an AdmissionReview or a ConversionReview.
func review(w http.ResponseWriter, r *http.Request, answer func(object) object) {
	var asked object
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, longestReview)).Decode(&asked)
	request, ok := asked["request"].(object)
	if err != nil || !ok {
		refuse(w, http.StatusBadRequest, "BadRequest", "a review with a request is expected")
		return
	}
	send(w, http.StatusOK, object{"kind": asked["kind"], "apiVersion": asked["apiVersion"], "response": answer(request)})
}
