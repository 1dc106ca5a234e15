variable "name" {
  description = "Name of the bucket, unique in all of AWS."
  type        = string
}

variable "force_destroy" {
  description = "Let a destroy delete the bucket while it has objects."
  type        = bool
  default     = false
}

variable "versioned" {
  description = "Keep replaced and deleted objects as versions."
  type        = bool
  default     = false
}

variable "tls_only" {
  description = "Refuse requests over plain HTTP."
  type        = bool
  default     = true
}
