#pragma once

/// A logger that keeps what TensorRT complains of, so that an error can say it.

#include <porter/tensorrt/types.hpp>

#include <cstring>
#include <iostream>
#include <mutex>
#include <string>
#include <vector>

namespace porter::trt {

/// Keeps errors, and writes what is as severe as `shown` to standard error. TensorRT may call it from several threads.
/// It must outlive the builder or the runtime that was made with it.
class Logger : public nvinfer1::ILogger {
public:
    /// The default shows nothing: porter's own errors repeat what was kept.
    explicit Logger(bool showWarnings = false) : showWarnings_(showWarnings) {}

    void log(Severity severity, const char* message) noexcept override {
        try {
            const std::lock_guard<std::mutex> lock(mutex_);
            // Without a GPU, TensorRT-RTX says so at every step.
            if (severity <= Severity::kERROR && std::strstr(message, "catchCudaError") == nullptr) {
                errors_.emplace_back(message);
            } else if (severity == Severity::kWARNING && showWarnings_) {
                std::cerr << "TensorRT: " << message << '\n';
            }
        } catch (...) {
            // A logger must not throw; a message that does not fit into memory is lost.
        }
    }

    /// The errors since the last call of `takeErrors`, one in each line; empty where there were none.
    std::string takeErrors() {
        const std::lock_guard<std::mutex> lock(mutex_);
        std::string text;
        for (const auto& error : errors_) {
            text += (text.empty() ? "" : "\n") + error;
        }
        errors_.clear();
        return text;
    }

private:
    bool showWarnings_;
    std::mutex mutex_;
    std::vector<std::string> errors_;
};

/// `what`, and what the logger of `builder` has kept, if it is porter's.
[[noreturn]] inline void refuse(const std::string& what, nvinfer1::ILogger* logger = nullptr) {
    auto* const kept = dynamic_cast<Logger*>(logger);
    const std::string errors = kept == nullptr ? "" : kept->takeErrors();
    throw TensorRTError(what + (errors.empty() ? "" : ": " + errors));
}

} // namespace porter::trt
