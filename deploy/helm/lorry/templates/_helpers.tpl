{{- define "lorry.selector" -}}
app.kubernetes.io/name: lorry
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "lorry.labels" -}}
{{ include "lorry.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "lorry.name" -}}
{{- if eq .Release.Name "lorry" }}lorry{{ else }}{{ printf "lorry-%s" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{/* An image by its digest, or by its tag where it has none. */}}
{{- define "lorry.image" -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag }}{{ end -}}
{{- end }}

{{/* Seconds that a gateway or an engine has for the requests under way. */}}
{{- define "lorry.drainSeconds" -}}
{{- dig "gateway" "drain_timeout_s" 30 .Values.settings | int -}}
{{- end }}

{{/* Seconds that a pod stays when it has to end: Serve stops its replicas 5 s later at the latest, each with its drain and
     10 s, by when the endpoints of Services know. */}}
{{- define "lorry.leaveSeconds" -}}
{{- add (include "lorry.drainSeconds" . | int) 15 -}}
{{- end }}

{{/* Seconds until the kubelet kills. */}}
{{- define "lorry.graceSeconds" -}}
{{- add (include "lorry.leaveSeconds" . | int) 30 -}}
{{- end }}

{{/* What every pod reads its places and secrets from. */}}
{{- define "lorry.environment" -}}
- name: LORRY_HOME
  value: /var/lib/lorry
- name: LORRY_CONFIG
  value: /etc/lorry/lorry.toml
- name: LORRY_REGISTRY
  valueFrom:
    secretKeyRef:
      name: {{ .Values.registry.secretName }}
      key: {{ .Values.registry.secretKey }}
- name: LORRY_CLUSTER_SECRET
  valueFrom:
    secretKeyRef:
      name: {{ .Values.clusterSecret.secretName }}
      key: {{ .Values.clusterSecret.secretKey }}
{{- end }}

{{- define "lorry.environmentSecrets" -}}
{{- $names := .Values.environmentSecrets }}
{{- with .Values.artifacts.credentialsSecretName }}{{ $names = append $names . }}{{ end }}
{{- with $names }}
envFrom:
  {{- range . }}
  - secretRef:
      name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "lorry.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "lorry.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where pods may and should run, from a table of values with nodeSelector and tolerations. */}}
{{- define "lorry.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "lorry.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "lorry.mounts" -}}
- name: settings
  mountPath: /etc/lorry
  readOnly: true
- name: home
  mountPath: /var/lib/lorry
- name: tmp
  mountPath: /tmp
{{- if .Values.models.claimName }}
- name: models
  mountPath: /models
  readOnly: true
{{- end }}
{{- end }}

{{- define "lorry.volumes" -}}
- name: settings
  configMap:
    name: {{ include "lorry.name" . }}-settings
- name: tmp
  emptyDir: {}
{{- with .Values.models.claimName }}
- name: models
  persistentVolumeClaim:
    claimName: {{ . }}
    readOnly: true
{{- end }}
{{- end }}
